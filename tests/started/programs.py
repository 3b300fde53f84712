"""Programs of the project as a user starts them; most of them forked by a server (server.py), which takes a
fraction of the time.

    done = run_program("train.py", "train.steps=2", cwd=tmp_path)
    process = start([sys.executable, ROOT / "train.py", "train.steps=100000"], tmp_path, stdout=subprocess.PIPE)

What needs an interpreter of its own says `real=True`. Each program is started so at least once, and each property of
a launcher is shown so.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from started import server

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
# For functions of a test that need processes: it has no threads, and of one that has, a fork may wait for ever.
FORKSERVER = multiprocessing.get_context("forkserver")
# The same for all, since a test process has one such server.
PRELOADED = ["torch._dynamo", "helpers.trainings", "helpers.saved_models"]
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def environment(**more: str) -> dict[str, str]:
    """This process's environment for a program: one thread, no word of slowness, and no launcher of ours."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHED + server.LEFT_BY_LIBRARIES}
    return {**kept, "OMP_NUM_THREADS": "1", "CLEANGPT_PATIENCE": "inf", **more}


def start(command: list[Any], cwd, env=None, real=False, light=False, **streams: Any) -> subprocess.Popen:
    """Start [sys.executable, …] with these changes to the environment, in a session of its own. `light` is for
    programs that shall not load torch, and so are no forks of a process that has."""
    words, given = [str(word) for word in command], environment(**(env or {}))
    how = {"cwd": cwd, "env": given, "text": True, "start_new_session": True, **streams}
    if real or sys.platform != "linux":
        return subprocess.Popen(words, **how)
    server.Forked.server = server.begun(light)
    why = server.Forked.server.refusal(words, given)
    assert why is None, f"{why}: use real=True"
    return server.Forked(words, **how)


def run(command: list[Any], cwd, env=None, timeout=300, real=False, light=False) -> subprocess.CompletedProcess:
    """Start it and wait for its end."""
    process = start(command, cwd, env, real, light, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_program(script, *words, cwd, env=None, timeout=300, launcher=(), real=False, light=False):
    """A program of the project as a user starts it, or under `launcher`: (*TORCHRUN, "--nproc-per-node=2")."""
    return run([sys.executable, *launcher, ROOT / script, *words], cwd, env, timeout, real, light)


def refused(done) -> list[str]:
    """The sentences with which a program refused its command line."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    if len(lines) > 1:
        assert lines[0] == f"{len(lines) - 1} mistakes in the configuration:"
        del lines[0]
    return lines


def on_path(folder: Path) -> dict[str, str]:
    """The environment in which a program sees the packages in a folder as installed ones."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder))))}
