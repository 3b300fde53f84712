"""Names of jobs, short and clean, by what differs between them: 0003_model=llama,optimizer.lr=3e-4,seed=1"""

import hashlib
import re
from collections.abc import Sequence

from cleangpt.config.command_line import split

LONGEST = 120  # of a name; file systems take 255 bytes


def differing(jobs: Sequence[Sequence[str]]) -> set[str]:
    """Find the keys whose values are not the same in all jobs. A job is its words, `key=value`."""
    values: dict[str, set[str]] = {}
    for words in jobs:
        for word in words:
            key, value = split(word)
            values.setdefault(key, set()).add(value)
    return {key for key, found in values.items() if len(found) > 1}


def label(words: Sequence[str], keys: set[str]) -> str:
    """Write what of a job differs from others: `model=llama,seed=1`."""
    return ",".join(word.lstrip("+~") for word in words if split(word)[0] in keys)


def name(number: int, told: str) -> str:
    """Name the folder of a job: its number, and what differs as far as a file system, a shell and a person like it."""
    clean = re.sub(r"['\"\[\]{}()]", "", told)
    clean = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", clean).strip("-")
    whole = f"{number:04}_{clean}" if clean else f"{number:04}"
    if len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST - 9].rstrip(',.-')}-{digest}"
