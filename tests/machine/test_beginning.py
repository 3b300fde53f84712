"""Ctrl-C and SIGTERM before a program has anything to lose: one word, and 128 + the signal."""

import os
import signal

import pytest
from started.programs import run_program

from cleangpt.config import cli
from cleangpt.machine import beginning

INT, TERM = signal.SIGINT, signal.SIGTERM
WORDS = {INT: "Interrupted.\n", TERM: "Stopped by SIGTERM.\n"}

# The program gets a signal where it imports a module, or opens a file, whose name ends so.
TRAP = """
import os, sys
class Trap:
    def find_spec(self, name, path=None, target=None):
        if "import " + name == {point!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Trap())
def opens(event, arguments):
    if event == "open" and "open " + os.path.basename(str(arguments[0])) == {point!r}:
        os.kill(os.getpid(), {number})
sys.addaudithook(opens)
"""


@pytest.fixture
def interrupted(tmp_path):
    """Runs a program that gets a signal at a point; shows that it leaves nothing behind."""
    trap, here = tmp_path / "trap", tmp_path / "here"
    trap.mkdir()
    here.mkdir()
    (here / "mine.txt").touch()

    def run(program: str, point: str, number: int):
        (trap / "sitecustomize.py").write_text(TRAP.format(point=point, number=int(number)))
        script, *words = program.split()
        done = run_program(script, *words, cwd=here, env={"PYTHONPATH": str(trap)}, real=True)
        assert [path.name for path in here.iterdir()] == ["mine.txt"]
        return done

    return run


@pytest.mark.parametrize(
    ("program", "point", "number"),
    [
        ("train.py", "import hydra", INT),
        ("train.py", "open train.yaml", INT),
        ("train.py hydra.run.dir=run", "import torch", TERM),
        ("train.py -m seed=0,1", "import cleangpt.sweeps.settings", TERM),
        ("sample.py", "import cleangpt.disk.rundir", INT),
        ("sample.py", "open sample.yaml", TERM),
        ("eval/score.py", "import hydra", INT),
        ("eval/report.py", "import omegaconf", INT),
        ("data/prepare.py", "open prepare.yaml", INT),
        ("export.py out=exported", "import torch", INT),
        ("bench.py startup=false", "import torch", INT),
    ],
)
def test_a_program_that_begins_ends_with_a_word(interrupted, program, point, number):
    done = interrupted(program, point, number)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", WORDS[number])


def test_what_a_shell_asked_to_ignore_is_ignored(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + TRAP.format(point="import hydra", number=2)
    )
    done = run_program("train.py", "train.stepz=3", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, real=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.fixture
def program(monkeypatch):
    """This process answers signals as a program does."""
    monkeypatch.setattr(beginning, "_program", os.getpid())
    before = {number: signal.signal(number, beginning._asked) for number in beginning.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [INT, TERM])
def test_what_was_begun_is_closed_in_order(program, capfd, number):
    done = []

    def action():
        beginning.take_back(lambda: done.append("taken back"))
        try:
            os.kill(os.getpid(), number)
        finally:
            done.append("closed")

    with pytest.raises(SystemExit) as ended:
        cli.run(action)
    assert ended.value.code == 128 + number
    assert done == ["closed", "taken back"]
    assert capfd.readouterr() == ("", WORDS[number])


def test_of_several_processes_the_first_speaks(program, capfd, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), beginning.unwinding():
        os.kill(os.getpid(), TERM)
    assert capfd.readouterr() == ("", "")


def test_what_a_program_forks_ends_without_a_word(program, capfd):
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), TERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + TERM
    assert capfd.readouterr() == ("", "")
