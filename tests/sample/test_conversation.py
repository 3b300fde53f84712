"""A conversation with a model, line by line and at a terminal."""

import contextlib
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from helpers.saved_models import asked, opened, three_runs
from started.programs import ROOT

from cleangpt.sample import text_model
from cleangpt.sample.conversation import Conversation


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return three_runs(tmp_path_factory.mktemp("runs"))


def talk(run: str, *lines: str, words=(), monkeypatch) -> str:
    """What a conversation prints, when these lines are typed."""
    settings = asked(f"run={run}", "max_new_tokens=12", *words)
    found, trained, reader = opened(run)
    typed = iter(lines)

    def input_(prompt):
        with contextlib.suppress(StopIteration):
            return next(typed)
        raise EOFError

    monkeypatch.setattr("builtins.input", input_)
    out = io.StringIO()
    conversation = Conversation(text_model.TextModel(found, trained, reader, settings), settings)
    with contextlib.redirect_stdout(out):
        assert conversation.run() == 0
    return out.getvalue().partition("leaves.\n")[2]


def test_what_was_said_is_read_again_until_a_reset(runs, monkeypatch):
    def lines(*typed):
        return talk(runs.letters, *typed, words=["temperature=0"], monkeypatch=monkeypatch).strip("\n")

    first = lines("to be")
    assert len(first) == 12
    both = lines("to be", "or")
    assert both.startswith(first + "\n")
    read = f"to be{first}\nor" if not first.endswith("\n") else f"to be{first}or"
    assert both[len(first) + 1 :] == lines(read)
    assert lines("to be", "/reset", "or").endswith(lines("or"))
    assert lines("to be", "/quit", "or") == first


def test_knobs_change_what_is_said_and_are_judged(runs, monkeypatch):
    out = talk(
        runs.letters,
        "/temperature 0",
        "/max_new_tokens 5",
        "abc",
        "/top_p 2",
        "/temprature 1",
        "/stop off",
        "/settings",
        "TO",
        "//a",
        "/help",
        monkeypatch=monkeypatch,
    )
    assert "temperature 0.0    (a number of at least 0 or auto)" in out
    assert "`top_p` must be a number above 0 up to 1 or null, not 2" in out
    assert "There is no /temprature: did you mean /temperature?" in out
    assert "stop off" in out
    assert "that: the model's vocabulary has no 'O', 'T'" in out
    assert "that: the model's vocabulary has no '/'" in out
    assert "Ctrl-C stops it" in out
    answer = out.split("max_new_tokens 5")[1].split("\n")[1]
    assert len(answer) == 5


def test_a_seed_repeats_a_conversation(runs, monkeypatch):
    def said(*lines):
        return talk(runs.letters, *lines, words=["temperature=1.0"], monkeypatch=monkeypatch)

    first, again, other = (said(f"/seed {seed}", "hi", "ho") for seed in (5, 5, 6))
    assert first == again
    assert first[10:] != other[10:]
    found = re.fullmatch(
        r"seed 5.*?\)\n(.{12})\n\(Forgotten.\)\n(.{12})\n\n", said("/seed 5", "hi", "/reset", "hi"), re.DOTALL
    )
    assert found[1] == found[2]


def test_a_template_has_its_own_commands(runs, monkeypatch):
    settings = ["template=emotion", "temperature=0"]
    sad = talk(runs.letters, "/emotion sad", "to be", words=settings, monkeypatch=monkeypatch).splitlines()
    assert sad[0] == "emotion sad"
    plain = talk(runs.letters, "emotion:sad | to be", words=["temperature=0"], monkeypatch=monkeypatch)
    assert sad[1:] == plain.splitlines()


def test_questions_are_asked_one_by_one(runs, monkeypatch):
    out = talk(runs.adder, "1+2", "30+4", "1+234", monkeypatch=monkeypatch).splitlines()
    assert [line.split(" = ")[0] for line in out[:2]] == ["1+2", "30+4"]
    assert out[2].startswith("that: 234 has 3 digits")


class Terminal:
    """A program in a pseudo-terminal, and a person at it."""

    def __init__(self, *words: str, cwd):
        self.master, slave = pty.openpty()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "sample.py"), *words],
            stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str, press: str = "", seconds: float = 90) -> str:
        """What came until something matches; it is taken away. `press` is pressed each second until it does."""
        until, pressed = time.monotonic() + seconds, 0.0
        while not (found := re.search(pattern, self.seen.decode(errors="ignore"), re.DOTALL)):
            assert time.monotonic() < until, self.seen
            if press and time.monotonic() - pressed > 1:
                self.type(press)
                pressed = time.monotonic()
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        assert found, self.seen
        text = self.seen.decode(errors="ignore")
        self.seen = text[found.end() :].encode()
        return text[: found.end()]

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


def test_a_person_at_a_terminal_can_stop_a_text_and_go_on(runs, tmp_path):
    terminal = Terminal(f"run={runs.letters}", "interactive=true", "max_new_tokens=10000000", cwd=tmp_path)
    try:
        terminal.wait_for("leaves.*> ")
        terminal.type("to be\n")
        terminal.wait_for(r"to be\r?\n.{20}")
        terminal.wait_for(r"\(stopped\).*> ", press="\x03")  # Ctrl-C, as a terminal sends it
        terminal.wait_for(r"/quit leaves.*> ", press="\x03")
        terminal.type("/max_new_tokens 7\n")
        terminal.wait_for(r"max_new_tokens 7.*> ")
        terminal.type("or not\n")
        shown = terminal.wait_for(r"or not\r?\n.*> ")
        assert len(shown.replace("\r", "").partition("or not\n")[2].removesuffix("\n> ")) >= 7
        terminal.type("\x04")  # Ctrl-D
        assert terminal.process.wait(timeout=60) == 0
    finally:
        terminal.close()
