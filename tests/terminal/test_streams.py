"""Consoles that go, fill up, or know few characters."""

import errno
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers.saved_models import saved
from helpers.trainings import composed
from started.programs import FORKSERVER, PRELOADED, ROOT, start

from cleangpt.basics import files
from cleangpt.config import experiment
from cleangpt.config.asked import Asked
from cleangpt.corpus.prepare import prepare
from cleangpt.disk.rundir import RunDir
from cleangpt.terminal import streams
from cleangpt.training import whole

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def closed_pipe() -> int:
    """The end of a pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    return write


def full() -> int:
    return os.open(FULL, os.O_WRONLY)


def nothing() -> int:
    """As `>&-` leaves it: nothing can be written there."""
    return os.open(os.devnull, os.O_RDONLY)


def a_file() -> int:
    return os.open("stdout", os.O_WRONLY | os.O_CREAT, 0o666)


CONSOLES = {"closed pipe": (closed_pipe, errno.EPIPE), "full": (full, errno.ENOSPC), "closed": (nothing, errno.EBADF)}
if not FULL.exists():
    del CONSOLES["full"]


def in_a_child(console, stderr: str, action, goes_on: bool, encoding="utf-8") -> int:
    """The exit status of a process that has these streams, as a program of ours settles them.

    `console` makes standard output; `stderr` is a file, or else nothing is open there.
    """
    FORKSERVER.set_forkserver_preload(PRELOADED)
    child = FORKSERVER.Process(target=_child, args=(Path.cwd(), console, stderr, action, goes_on, encoding))
    child.start()
    child.join(100)
    child.kill()
    child.join()
    return child.exitcode


def _child(here: Path, console, stderr: str, action, goes_on: bool, encoding: str) -> None:
    os.chdir(here)
    try:
        os.dup2(console(), 1)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT, 0o666) if stderr else nothing(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding=encoding, closefd=False) for number in (1, 2))
        streams.settle(goes_on)
        status = action()
        sys.stdout.flush()
    except SystemExit as leaving:
        status = leaving.code
    except BaseException as error:
        Path("died.txt").write_text(repr(error))
        status = 99
    os._exit(status)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trains(*overrides) -> int:
    asked = Asked(experiment.parse(composed("train.steps=4", "train.eval_every=2", *overrides)))
    return whole.train(asked, RunDir(Path("run")), None, time.monotonic())


# ---- trainings


@pytest.mark.parametrize("bar", ["false", "true"])
@pytest.mark.parametrize("console", CONSOLES.values(), ids=CONSOLES)
def test_a_training_goes_on_without_its_console_and_says_so_once_in_its_log(here, console, bar):
    make, number = console
    status = in_a_child(make, "stderr", partial(trains, f"logger.progress={bar}"), goes_on=True)
    assert status == 0, (here / "died.txt").exists() and (here / "died.txt").read_text()
    gone = f"standard output is gone ({os.strerror(number)}): going on without it\n"
    log = (here / "run" / "train.log").read_text()
    assert log.count(gone) == 1
    assert "step 4/4" in log
    assert (here / "stderr").read_text() == gone
    assert files.read_json(here / "run" / "summary.json")["status"] == "completed"


def test_a_training_goes_on_without_both_streams(here):
    status = in_a_child(closed_pipe, "", trains, goes_on=True)
    assert status == 0
    log = (here / "run" / "train.log").read_text()
    assert log.count("standard output is gone") == 1
    assert log.count("standard error is gone") == 1


def test_a_sample_that_the_console_has_no_characters_for_is_shown_as_escapes(here):
    (here / "words.txt").write_text("äöüß € 😀 \u2028 éèê " * 400, encoding="utf-8")
    words = ("dataset=text", "dataset.source=words.txt", "dataset.dir=data", "dataset.tokenizer=characters")
    prepare(experiment.parse(composed(*words)).dataset, 1, False, lambda *_: None)
    words = (*words[:1], *words[2:], "model.block_size=16", "logger.samples=2", "logger.progress=true")
    status = in_a_child(a_file, "stderr", partial(trains, *words), True, "ascii")
    assert status == 0, (here / "died.txt").exists() and (here / "died.txt").read_text()
    assert "\\x" in (here / "stdout").read_text(encoding="ascii")
    assert set("äöüß€😀éèê") & set((here / "run" / "train.log").read_text(encoding="utf-8"))


# ---- other programs


def prints() -> int:
    for line in range(10_000):
        print(line)
    Path("went on").touch()
    return 0


@pytest.mark.parametrize("console", CONSOLES.values(), ids=CONSOLES)
def test_what_only_prints_ends_quietly_at_a_closed_pipe_and_else_with_a_sentence(here, console):
    make, number = console
    status = in_a_child(make, "stderr", prints, goes_on=False)
    assert not (here / "went on").exists()
    said = f"standard output can't be written ({os.strerror(number)})\n"
    assert (status, (here / "stderr").read_text()) == ((141, "") if number == errno.EPIPE else (1, said))


def started(script, *words, stdout, env=None, redirect="") -> tuple[int, str]:
    """Exit status and standard error of a program."""
    command = [sys.executable, ROOT / script, *words]
    if redirect:
        command = ["sh", "-c", f'exec "$@" {redirect}', "sh", *command]
    begun = start(command, Path.cwd(), env, bool(env or redirect), stdout=stdout, stderr=subprocess.PIPE)
    _, said = begun.communicate(timeout=120)
    if isinstance(stdout, int) and stdout >= 0:
        os.close(stdout)
    return begun.returncode, said


def test_help_ends_like_any_tool():
    assert started("export.py", "--help", stdout=closed_pipe()) == (141, "")
    assert started("train.py", "--help", stdout=closed_pipe()) == (141, "")
    if FULL.exists():
        told = "standard output can't be written (No space left on device)\n"
        assert started("sample.py", "--help", stdout=full()) == (1, told)
    status, said = started("eval/report.py", "--help", stdout=None, redirect=">&-")
    assert (status, said) == (1, "standard output can't be written (Bad file descriptor)\n")
    assert started("eval/report.py", "runs=[]", "nothing=1", stdout=None, redirect=">&- 2>&- <&-")[0] == 2


def test_what_was_written_before_is_not_lost_and_samples_are_shown_in_ascii(here):
    saved(here / "run")
    words = ["run=run", "device=cpu", "max_new_tokens=40", "num_samples=8"]
    with (here / "out").open("wb") as out:
        status, said = started("sample.py", *words, "prompt=é€", stdout=out, env={"PYTHONIOENCODING": "ascii"})
    assert status == 0, said
    assert "\\xe9\\u20ac" in (here / "out").read_text(encoding="ascii")
    if FULL.exists():
        status, said = started("sample.py", *words, "prompt=a", stdout=full())
        assert status == 1
        assert said.endswith("standard output can't be written (No space left on device)\n")
        assert "Traceback" not in said
