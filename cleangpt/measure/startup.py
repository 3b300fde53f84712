"""Time the way from the command to the first step done, in fresh processes.

Torch is not imported here: nothing is warm that would be cold for a person who types the command.

Cold is the first start, with empty caches of torch.compile where it is on; warm the next one, with what that left.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cleangpt.basics import verbs
from cleangpt.basics.errors import UserError
from cleangpt.config import command_line
from cleangpt.config.experiment import Config
from cleangpt.config.programs import BenchConfig
from cleangpt.machine import guard

QUIET = [f"logger.{key}=false" for key in ("progress", "plots", "tensorboard", "wandb", "csv")]
OWN = {"hydra", "profile", *(set(BenchConfig.model_fields) - set(Config.model_fields))}
LONGEST = 600  # seconds that a first step may take


def seconds(config: BenchConfig, words: Sequence[str]) -> dict[str, float]:
    """Time a cold and a warm start with the words of this command line, but for those of bench.py's own keys."""
    words = [word for word in words if command_line.split(word)[0].partition(".")[0] not in OWN]
    if (place := getattr(config.dataset, "dir", None)) is not None:
        words.append(f"dataset.dir={command_line.quoted(Path(place).absolute())}")
    with tempfile.TemporaryDirectory(prefix="bench-start-", ignore_cleanup_errors=True) as folder:
        return {name: _start(Path(folder), name, words) for name in ("cold", "warm")}


def _absolute(word: str) -> str:
    """Name a folder of configuration so that it is found from everywhere."""
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).absolute()}" if Path(value).is_dir() else word


def _start(folder: Path, name: str, words: list[str]) -> float:
    """Time one start, until the first line of metrics.jsonl is written, which is that of the first step."""
    run, errors = folder / name, folder / f"{name}.err"
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
    where = map(_absolute, command_line.hydra_words(sys.argv[1:]))
    command = [*verbs.command("train"), *where, *words, *QUIET, "processes=1"]
    began = time.monotonic()
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*command, f"hydra.run.dir={command_line.quoted(run)}"],
            cwd=folder,  # where its outputs/latest is nobody's
            env={**verbs.environment(os.environ), **caches},
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
    try:
        while True:
            has_ended, metrics = process.poll() is not None, run / "metrics.jsonl"
            if metrics.exists() and metrics.stat().st_size > 0:
                return time.monotonic() - began
            if has_ended:
                raise UserError(
                    f"the training did not start (startup=false leaves this out): {errors.read_text().strip()}"
                )
            if time.monotonic() - began > LONGEST:
                raise UserError(f"the training made no step in {LONGEST} s: startup=false leaves this out")
            time.sleep(0.005)
    finally:
        if process.poll() is None:
            guard.kill_with_descendants(process.pid)  # with the processes that it compiles in
        process.wait()
