"""No orphans: processes notice that whoever started them is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cleangpt.machine import guard

ROOT = Path(__file__).resolve().parents[2]
CHILD = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from cleangpt.machine import guard
guard.leave_with_parent()
assert guard.PARENT not in os.environ
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from cleangpt.machine import guard
subprocess.Popen({{command}}, env={{environment}}, start_new_session={{session}})
time.sleep(60)
"""
PYTHON = f"[sys.executable, '-c', {CHILD!r}]"
SCRIPT = f"['sh', '-c', '\"$0\" -c \"$1\"; true', sys.executable, {CHILD!r}]"
RANK = "{**os.environ, 'RANK': '0', 'WORLD_SIZE': '1'}"
TORCHRUN = "{**os.environ, 'RANK': '0', 'WORLD_SIZE': '1', 'TORCHELASTIC_RUN_ID': 'none'}"
STARTED = {
    "announced, in a session of its own": (PYTHON, "guard.announced(os.environ)", True),
    "a rank of torchrun's": (PYTHON, TORCHRUN, True),
    "a rank of torchrun's in a script": (SCRIPT, TORCHRUN, True),
    "a rank of another launcher's": (PYTHON, RANK, False),
}


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("started", STARTED.values(), ids=STARTED)
@pytest.mark.parametrize("how", ["orphaned", "killed with it"])
def test_a_child_does_not_outlive_whoever_started_it(started, how):
    command, environment, session = started
    source = PARENT.format(command=command, environment=environment, session=session)
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        assert is_there(child)
        if how == "orphaned":
            parent.kill()
        else:
            guard.kill_with_descendants(parent.pid)
        parent.wait()
        deadline = time.monotonic() + 20
        while is_there(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_there(child)
    finally:
        if is_there(child):
            os.kill(child, signal.SIGKILL)


POOL = f"""
import operator, os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from cleangpt.corpus import prepare
if __name__ == "__main__":
    workers = prepare._Workers(2)
    workers.size_up(1)
    list(workers.map(operator.is_, iter([[]] * 9)))
    print(*workers.pool._processes, flush=True)
    time.sleep(60)
"""


def test_processes_that_tokenize_do_not_outlive_the_one_that_reads(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True)
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_there, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [child for child in children if is_there(child)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert left == []


def test_what_a_person_started_may_outlive_the_shell(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", guard.PARENT):
        monkeypatch.delenv(name, raising=False)
    assert guard._links() == []
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert guard._links() == [(os.getpid(), os.getppid())]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guard._links() == [], "nohup"
    finally:
        signal.signal(signal.SIGHUP, before)
    monkeypatch.setattr(guard.os, "getsid", lambda _: os.getpid())
    assert guard._links() == [], "setsid"


def test_a_child_that_is_stuck_is_killed(monkeypatch):
    sent = []
    monkeypatch.setattr(guard, "_is_held", lambda *_: False)
    monkeypatch.setattr(guard.time, "sleep", lambda seconds: sent.append(seconds))
    monkeypatch.setattr(guard.os, "kill", lambda pid, number: sent.append((pid, number)))
    guard._watch([(os.getpid(), 1)])
    assert sent == [(os.getpid(), signal.SIGTERM), guard.STUCK_AFTER, (os.getpid(), signal.SIGKILL)]
