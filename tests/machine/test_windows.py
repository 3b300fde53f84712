"""One process trains, scores and samples on a system that lacks what Windows lacks; the rest is refused in a sentence.

What it lacks is taken away before anything of ours is loaded: modules, signals, functions of `os`, folders that can be
opened, and links.
"""

import json
import subprocess
import sys

import pytest
from started.programs import ROOT, environment

LACKING = """
import os, runpy, signal, sys
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGALRM", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
for name in ("fork", "setsid", "getsid", "killpg", "getpgid", "nice", "sched_getaffinity", "getuid", "geteuid",
             "mkfifo", "O_NOFOLLOW", "O_DIRECTORY", "sysconf", "getloadavg", "statvfs", "fchmod", "chown"):
    delattr(os, name)
os.supports_dir_fd = set()
opens = os.open
def opened(path, flags, mode=0o777, *, dir_fd=None):
    assert dir_fd is None
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opens(path, flags, mode)
os.open = opened
def link(*_, **__):
    raise OSError(22, "A required privilege is not held by the client")
os.symlink = os.link = link
runpy.run_module("cleangpt", run_name="__main__", alter_sys=True)
"""
SMALL = ["model=llama_tiny", "dataset.digits=1", "train.batch_size=8", "train.steps=4", "logger=quiet"]


@pytest.fixture
def there(tmp_path):
    """Run a command on such a system."""
    (tmp_path / "lacking.py").write_text(LACKING)

    def there(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(tmp_path / "lacking.py"), *words]
        given = environment(PYTHONPATH=str(ROOT))
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=300)

    return there


def test_a_run_is_trained_goes_on_and_is_scored_and_sampled(there, tmp_path):
    done = there("train", *SMALL)
    assert done.returncode == 0, done.stderr
    newest = tmp_path / "outputs" / "latest"
    assert newest.is_file(), "there are no links: a file names the run"
    run = newest.parent / newest.read_text().strip()
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert not list(run.rglob("*.tmp"))
    longer = there("train", "resume=latest", "train.steps=6")
    assert longer.returncode == 0, longer.stderr
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 6
    assert there("score", "run=latest", "limit=5").returncode == 0
    assert there("sample", "run=latest", "prompt=1+2").stdout.startswith("1+2 = ")


@pytest.mark.parametrize(
    ("words", "what"), [(["-m", "seed=0,1"], "sweeps need"), (["processes=2", *SMALL], "processes=2 needs")]
)
def test_what_needs_several_processes_is_refused_and_leaves_nothing(there, tmp_path, words, what):
    done = there("train", *words)
    sentence = f"{what} Linux or macOS (on Windows, WSL): train one at a time, with processes=1\n"
    assert (done.returncode, done.stderr) == (2, sentence)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and any(path.rglob("*.json"))] == []
    assert not list(tmp_path.glob("outputs/*/*"))
