"""A program that is forked meets what a new interpreter would, and can't be told from one by whoever started it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from started import programs, server
from started.programs import run_program, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux only")
BOTH = pytest.mark.parametrize("real", [True, False], ids=["real", "forked"])


@pytest.fixture
def program(tmp_path):
    """A script of these lines."""

    def write(text: str) -> Path:
        path = tmp_path / "scripts" / "program.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


SURROUNDINGS = """
import json, os, random, signal, sys, threading
import numpy, torch
left = os.umask(0)
streams = [[s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.newlines, s.fileno(), s.isatty()]
           for s in (sys.stdin, sys.stdout, sys.stderr)]
print(json.dumps({
    "environment": dict(os.environ), "argv": sys.argv, "orig_argv": sys.orig_argv[-2:], "cwd": os.getcwd(),
    "path": sys.path, "umask": left, "streams": streams, "same": sys.stdout is sys.__stdout__,
    "session": os.getsid(0) == os.getpid(), "group": os.getpgid(0) == os.getpid(), "parent": os.getppid(),
    "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals()) if number not in (9, 19)
                and "default_int_handler" not in str(signal.getsignal(number))],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "name": __name__,
    "main": sorted({*vars()} - {"__annotations__"}),
    "module": sys.modules["__main__"].__dict__ is globals(), "threads": threading.active_count(),
    "open": sorted(n for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)
                   and not os.readlink("/proc/self/fd/" + n).startswith("socket:")),
    "computes in": torch.get_num_threads(),
    "ours": sorted(name for name in sys.modules if name.partition(".")[0] in ("cleangpt", "hydra_plugins", "server")),
}))
print(random.random(), numpy.random.random(), torch.initial_seed(), file=sys.stderr)
"""


@pytest.mark.slow
def test_what_a_program_meets_is_what_a_new_interpreter_meets(tmp_path, program):
    script, here = program(SURROUNDINGS), tmp_path / "here"
    here.mkdir()
    before = os.umask(0o027)
    try:
        env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}nowhere", "ONE": "ä=1"}
        done = [run_program(script, "a b", "é", cwd=here, env=env, real=real) for real in (True, False, False)]
    finally:
        os.umask(before)
    assert [one.returncode for one in done] == [0, 0, 0], done
    real, *forked = (json.loads(one.stdout) for one in done)
    for found in forked:
        assert {name: (found[name], real[name]) for name in real if found[name] != real[name]} == {}
    assert real["parent"] == os.getpid()
    assert len({number for one in done for number in one.stderr.split()}) == 9, "random numbers are drawn anew"


ENDS = {
    "none": ("print('said')", 0),
    "zero": ("import sys; print('said'); sys.exit(0)", 0),
    "number": ("import sys; print('said'); sys.exit(300)", 300 & 0xFF),
    "words": ("import sys; print('said'); sys.exit('words')", 1),
    "exception": ("def f():\n    1 / 0\nprint('said')\nf()", 1),
    "syntax": ("print('said'\n", 1),
    "at once": ("import os; os.write(1, b'said'); os._exit(9)", 9),
    "SIGTERM": ("import os; os.write(1, b'said'); os.kill(os.getpid(), 15)", -signal.SIGTERM),
    "SIGINT": ("import os, signal\nsignal.signal(2, signal.default_int_handler)\nprint('said')\n"
               "os.kill(os.getpid(), 2)\nsignal.pause()", -signal.SIGINT),
    "SIGSEGV": ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    "at exit": ("import atexit, threading, time\natexit.register(print, 'last')\n"
                "threading.Thread(target=lambda: (time.sleep(0.1), print('waited for'))).start()", 0),
    "fails at exit": ("import atexit\natexit.register(lambda: 1 / 0)\nprint('said')", 0),
    "closed": ("import os; print('said'); os.close(1)", 120),
    "no such module": ("import sys; print(sys.path[0]); import nothing_of_this_name", 1),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_an_interpreter_does(tmp_path, program, end):
    text, status = ENDS[end]
    script = program(text)
    real, forked = (run_program(script, cwd=tmp_path, real=real) for real in (True, False))
    assert real.returncode == forked.returncode
    assert real.returncode == status or (end == "closed" and "PYTHONUNBUFFERED" in os.environ)
    assert real.stdout == forked.stdout
    nameless = [re.sub(r" at 0x\w+|<_io.*?(?=\n)", "", one.stderr) for one in (real, forked)]
    assert nameless[0] == nameless[1]


def test_a_file_that_is_not_there_and_a_module(tmp_path):
    for words in (["nothing.py"], ["-m", "json.tool", "--no-such-option"], ["-m", "no_such_module"]):
        server.Forked.server = server.begun()
        how = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": programs.environment()}
        real, forked = (kind([sys.executable, *words], **how) for kind in (subprocess.Popen, server.Forked))
        assert real.communicate() == forked.communicate()
        assert real.returncode == forked.returncode != 0


@BOTH
def test_a_program_is_waited_for_talked_to_and_killed(tmp_path, program, real):
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    echo = start([sys.executable, program("print('ready', flush=True); print(input())")], tmp_path, real=real, **pipes)
    assert echo.stdout.readline() == "ready\n"
    assert echo.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        echo.wait(timeout=0.01)
    assert echo.communicate("words\n", timeout=60) == ("words\n", None)
    assert echo.poll() == 0
    script = program("import time; print('ready', flush=True); time.sleep(100)")
    sleeps = start([sys.executable, script], tmp_path, real=real, **pipes)
    sleeps.stdout.readline()
    os.killpg(sleeps.pid, signal.SIGTERM)
    assert sleeps.wait(timeout=60) == -signal.SIGTERM
    assert sleeps.communicate()[0] == ""


CHANGES = """
import os, signal, sys, builtins, warnings, random, logging
import torch, numpy, hydra, omegaconf
os.environ["LEFT"] = "behind"
os.chdir("/"), os.umask(0)
sys.path.append("/left"), setattr(builtins, "left", 1), setattr(torch, "left", 1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
torch.manual_seed(1), torch.set_num_threads(2), torch.set_grad_enabled(False), torch.set_default_dtype(torch.float64)
omegaconf.OmegaConf.register_new_resolver("left", lambda: 1)
logging.getLogger().setLevel(logging.ERROR)
"""
LEFT = """
import os, signal, sys, builtins, logging, torch, omegaconf
print("LEFT" in os.environ, os.getcwd() == "/", "/left" in sys.path, hasattr(builtins, "left"), hasattr(torch, "left"))
print(signal.getsignal(15), torch.initial_seed() == 1, torch.is_grad_enabled(), torch.get_default_dtype())
print(omegaconf.OmegaConf.has_resolver("left"), logging.getLogger().level, torch.get_num_threads())
"""


def test_a_program_leaves_nothing_to_the_next(tmp_path, program):
    fresh = run_program(program(LEFT), cwd=tmp_path, real=True)
    assert run_program(program(CHANGES), cwd=tmp_path).returncode == 0
    assert run_program(program(LEFT), cwd=tmp_path).stdout == fresh.stdout


def test_each_run_has_a_name_of_its_own(tmp_path):
    shown = [run_program("train.py", "--cfg", "hydra", "-p", "hydra.run.dir", cwd=tmp_path).stdout for _ in range(2)]
    assert len({re.search(r"_(\w{4})'?$", folder.strip())[1] for folder in shown}) == 2


STARTS = """
import os, subprocess, sys
child = os.path.join(os.path.dirname(__file__), "child.py")
with open(child, "w") as file:
    file.write("import os, signal, sys; print(os.getppid(), os.environ['TOLD'], sys.argv[1:], "
               "'torch' in sys.modules, [str(signal.getsignal(number)).split(' at ')[0] for number in (1, 2, 15)])")
pipes = dict(stdout=subprocess.PIPE, text=True, env={**os.environ, "TOLD": "so"})
done = subprocess.run([sys.executable, "-u", child, "word"], **pipes)
assert done.stdout.startswith(f"{os.getpid()} so ['word'] "), done
print(done.stdout.partition("['word'] ")[2].strip())
print(subprocess.run([sys.executable, "-c", "import sys; print('torch' in sys.modules)"], **pipes).stdout.strip())
print(subprocess.run(["echo", "no Python"], **pipes).stdout.strip())
"""


def test_what_a_forked_program_starts_is_its_child_and_forked_too(tmp_path, program):
    script = program(STARTS)
    real, forked = (run_program(script, cwd=tmp_path, real=real).stdout for real in (True, False))
    assert re.fullmatch(r"False \[.*\]\nFalse\nno Python\n", real)
    assert forked == real.replace("False", "True", 1), "of another origin, and with the same signals"


def test_a_light_program_has_no_torch_and_finds_what_stands_in_its_place(tmp_path, program):
    (tmp_path / "torch.py").write_text("print('a stub')")
    script = program("import sys, hydra; print('torch' in sys.modules); import torch")
    done = run_program(script, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, light=True)
    assert done.stdout == "False\na stub\n"


def test_what_can_not_be_forked_says_so(tmp_path):
    (tmp_path / "torch").mkdir()
    for env, why in (
        ({"PYTHONPATH": str(tmp_path)}, "torch of PYTHONPATH is loaded already: use real=True"),
        ({"PYTHONIOENCODING": "ascii"}, "PYTHONIOENCODING is read as an interpreter starts: use real=True"),
        ({"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS is read as an interpreter starts: use real=True"),
    ):
        with pytest.raises(AssertionError, match=why):
            run_program("train.py", cwd=tmp_path, env=env)


ASKS = f"""
import subprocess, sys, time
sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
from started import programs, server
process = programs.start([sys.executable, sys.argv[1]], "/", stdout=subprocess.PIPE)
print(server.begun().pid, process.pid, process.stdout.readline(), flush=True)
time.sleep(100)
"""
WAITS = """
import os, time
print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_server_ends_with_whoever_asks_it(tmp_path, program):
    """Also where that one is killed, and can't tell it: the server of a test process, and the one of a program."""
    asks = tmp_path / "asks.py"
    asks.write_text(ASKS)
    asking = subprocess.Popen([sys.executable, asks, program(WAITS)], stdout=subprocess.PIPE, text=True)
    first, waits, second = map(int, asking.stdout.readline().split())
    assert all(map(is_there, (first, waits, second)))
    asking.kill()
    asking.communicate()
    until_gone(first)
    assert is_there(waits), "a program outlives who started it, unless it watches"
    os.kill(waits, signal.SIGKILL)
    until_gone(waits)
    until_gone(second)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_there(pid):
        assert time.monotonic() < deadline, pid
        time.sleep(0.02)
