"""Time a sweep whose jobs are forked from a kept process against the same one whose jobs are started, in turn.

    python benchmark/sweeps.py                                      # 40 jobs of 400 steps, twice each
    python benchmark/sweeps.py jobs=8 rounds=1 train.steps=100

Other words are those of train.py. The last line is one JSON object.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
JOB = ["dataset.digits=2", "train.steps=400", "train.batch_size=32", "train.test_at_end=false", "logger=quiet"]


def seconds(folder: Path, keep: bool, jobs: int, words: list[str]) -> float:
    how = [f"hydra.launcher.keep={str(keep).lower()}", f"seed={','.join(map(str, range(jobs)))}"]
    command = [sys.executable, str(TRAIN), "-m", "experiment=adder", *JOB, *words, *how, f"hydra.sweep.dir={folder}"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began


def main(words: list[str]) -> None:
    own = {"jobs": 40, "rounds": 2}
    for name in own:
        own[name] = next((int(word.partition("=")[2]) for word in words if word.startswith(f"{name}=")), own[name])
    words = [word for word in words if word.partition("=")[0] not in own]
    took: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(own["rounds"]):
            for keep in (True, False) if turn % 2 == 0 else (False, True):
                took[keep].append(seconds(Path(folder, f"{turn}_{keep}"), keep, own["jobs"], words))
                print(f"{'kept' if keep else 'started'}: {took[keep][-1]:.1f} s", flush=True)
    ratios = [started / kept for kept, started in zip(took[True], took[False], strict=True)]
    print(
        f"a sweep of {own['jobs']} jobs is {statistics.median(ratios):.2f} times as fast with hydra.launcher.keep=true"
    )
    told = {**own, "words": words, "kept": took[True], "started": took[False], "ratio": statistics.median(ratios)}
    print(json.dumps({**told, "ratios": ratios}))


if __name__ == "__main__":
    main(sys.argv[1:])
