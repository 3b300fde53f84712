"""Jobs that are forked from a process with torch loaded: the same as jobs that are started, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from helpers.sweeping import TOY
from started.programs import ROOT, run_program

from cleangpt.disk.rundir import read_metrics
from cleangpt.sweeps import kept
from cleangpt.sweeps.kept import Kept

TIMES = ("seconds", "tokens_per_second", "data_wait", "memory_gb", "train_seconds")


@pytest.fixture(scope="module")
def nursery():
    """One that a sweep of train.py keeps."""
    before, sys.argv = sys.argv, [str(ROOT / "train.py")]
    kept_one = Kept({**os.environ, "OMP_NUM_THREADS": "1"})
    yield kept_one
    kept_one.close()
    sys.argv = before


def ended(job: kept.Forked, seconds: float = 60) -> int | None:
    deadline = time.monotonic() + seconds
    while job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return job.poll()


def program(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text)
    return [sys.executable, str(folder / "program.py"), "word"]


def values(run: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(run / "metrics.jsonl")]


def test_a_forked_job_has_the_bits_of_one_that_was_started(tmp_path):
    words = ("train.steps=6", "train.log_every=1", "train.eval_every=3", "seed=0,1", "hydra.launcher.jobs=2")
    for keep, folder in (("true", "forked"), ("false", "started")):
        more = (f"hydra.launcher.keep={keep}", f"hydra.sweep.dir={folder}")
        done = run_program("train.py", "-m", *TOY, *words, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ("0000_seed=0", "0001_seed=1"):
        forked, started = tmp_path / "forked" / name, tmp_path / "started" / name
        assert (forked / "best/model.safetensors").read_bytes() == (started / "best/model.safetensors").read_bytes()
        assert len(values(forked)) == 6
        assert values(forked) == values(started)
        assert sorted(path.name for path in forked.iterdir()) == sorted(path.name for path in started.iterdir())
        mine, theirs = (json.loads((run / "run.json").read_text()) for run in (forked, started))
        assert mine["command"] == [word.replace("/started/", "/forked/") for word in theirs["command"]]


def test_a_fork_is_a_program_of_its_own(tmp_path, nursery):
    assert nursery.works
    names = [
        "sys.argv",
        "__name__",
        "os.getsid(0) == os.getpid()",
        "'torch' in sys.modules",
        "sys.stdin.read()",
        "os.environ.get('OF_THIS_JOB')",
    ]
    names += ["signal.getsignal(signal.SIGTERM) == signal.SIG_DFL", "os.environ['OMP_NUM_THREADS']"]
    shown = f"print(repr([{', '.join(names)}]))\nprint('aside', file=sys.stderr)\natexit.register(print, 'in the end')"
    command = program(tmp_path, f"import atexit, os, signal, sys\n{shown}\nsys.exit(3)\n")
    (tmp_path / "log").write_text("before\n")
    assert ended(nursery.start(command, tmp_path / "log", {**os.environ, "OF_THIS_JOB": "alone"})) == 3
    said = (tmp_path / "log").read_text().splitlines()
    assert sorted(said) == sorted(
        ["before", "aside", repr([command[1:], "__main__", True, True, "", "alone", True, "1"]), "in the end"]
    )


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("raise ValueError('words of its own')", 1, "ValueError: words of its own"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_a_fork_that_ends_badly_says_how_and_leaves_the_others_alone(tmp_path, nursery, text, status, says):
    other = nursery.start(program(tmp_path, "import time; time.sleep(99)"), tmp_path / "other", os.environ)
    (tmp_path / "bad").mkdir()
    one = nursery.start(program(tmp_path / "bad", text), tmp_path / "one", os.environ)
    assert ended(one) == status
    assert says in (tmp_path / "one").read_text()
    assert other.poll() is None
    other.send_signal(signal.SIGTERM)
    assert ended(other) == -signal.SIGTERM


def test_what_asks_a_whole_group_of_processes_to_end_ends_the_jobs_and_not_who_waits_for_them(tmp_path, nursery):
    job = nursery.start(program(tmp_path, "import time; time.sleep(99)"), tmp_path / "log", os.environ)
    above = int(Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()[1])
    for number in (above, job.pid):
        os.kill(number, signal.SIGTERM)
    assert ended(job) == -signal.SIGTERM
    assert nursery.start(program(tmp_path, ""), tmp_path / "log", os.environ) is not None


def test_a_job_that_nobody_waits_for_has_ended_and_so_has_one_whose_number_is_another_s(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = kept._began(child.pid)
    assert began is not None
    gone = types.SimpleNamespace(works=False)
    job = kept.Forked(gone, child.pid)
    assert job.poll() is None
    other = kept.Forked(gone, child.pid)
    other.began = "1"
    assert other.poll() == kept.GONE
    child.stdin.close()
    while kept._began(child.pid) is not None:  # it is a zombie then
        time.sleep(0.01)
    assert job.poll() == kept.GONE
    child.wait()


def test_signals_reach_a_job_and_the_sweep_goes_on_when_the_kept_process_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SECONDS_TO_ANSWER", 0.3)
    monkeypatch.setattr(kept, "BEGIN", "from cleangpt.sweeps import kept; kept.LOADED = (); " + kept.BEGIN)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    one = Kept(os.environ)
    job = one.start(program(tmp_path, "import time; time.sleep(99)"), tmp_path / "log", os.environ)
    assert job.poll() is None
    os.kill(parent(job.pid), signal.SIGSTOP)
    job.send_signal(signal.SIGTERM)
    assert ended(job) == kept.GONE
    assert (one.works, one.start(["train.py"], tmp_path / "log", {})) == (False, None)


def test_where_no_process_can_be_made_the_others_go_on(tmp_path, monkeypatch):
    none = "import os; os.fork = lambda: (_ for _ in ()).throw(BlockingIOError(11, 'too many')); "
    monkeypatch.setattr(kept, "BEGIN", none + "from cleangpt.sweeps import kept; kept.LOADED = (); " + kept.BEGIN)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    one = Kept(os.environ)
    assert one.start(program(tmp_path, ""), tmp_path / "log", os.environ) is None
    assert one.works
    one.close()


def test_where_a_library_has_started_a_thread_nothing_is_forked(monkeypatch):
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start(); "
    monkeypatch.setattr(kept, "BEGIN", thread + "from cleangpt.sweeps import kept; kept.LOADED = (); " + kept.BEGIN)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    one = Kept(os.environ)
    assert not one.works
    one.close()


def test_where_it_can_not_begin_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(kept, "BEGIN", "raise SystemExit(1)")
    one = Kept(os.environ)
    assert (one.works, one.start(["train.py"], Path("log"), {})) == (False, None)
    one.close()


@pytest.mark.slow
def test_jobs_save_a_snapshot_and_leave_when_what_they_were_forked_from_is_killed(tmp_path):
    words = ("train.steps=100000", "train.eval_every=null", "seed=0,1", "hydra.launcher.jobs=1")
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TOY, *words, "hydra.launcher.keep=true"]
    sweep = subprocess.Popen([*command, f"hydra.sweep.dir={tmp_path / 's'}"], cwd=tmp_path, stdout=subprocess.PIPE)
    job = tmp_path / "s" / "0000_seed=0"
    deadline = time.monotonic() + 90
    while not read_metrics(job / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if str(tmp_path).encode() in commands(path)]
    (forker,) = [pid for pid in pids if parent(pid) == sweep.pid]
    os.kill(forker, signal.SIGKILL)
    while not (job / "summary.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert json.loads((job / "summary.json").read_text())["status"] == "stopped"
    assert list((job / "snapshots").glob("step_*"))
    while not read_metrics(job.with_name("0001_seed=1") / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    sweep.send_signal(signal.SIGTERM)  # while the next job runs, which was started anew
    said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGTERM
    assert b"2 jobs: 2 stopped." in said


def commands(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
