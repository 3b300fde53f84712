"""Starts programs in a fraction of a second: a process that has torch loaded, and forks a child for each program.

`Forked` is `subprocess.Popen` whose child comes from such a server instead of a new interpreter. It is a real child of
whoever asks, with its own signals, session, status and streams. Run as a program, with the number of a socket, this
file is the server; it ends when the socket is closed, as it is when whoever holds the other end is gone.

What a child meets is what a new interpreter would: its environment, arguments, directory, streams, signals and random
numbers; and it ends as one does. Programs that launchers and sweeps start in turn are forked as well. What is decided
as an interpreter starts it shares with its siblings: the seed of `hash`, and each variable that a loaded library has
read, so that a command with others is not taken. And torch is there from the beginning: what a program does before it
loads torch is for a light server, which has not, or for a new interpreter.
"""

import atexit
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

# What programs of ours load, and what keeps nothing that a program does: each child has it for itself.
LIBRARIES = (
    "annotated_types", "antlr4.LL1Analyzer", "hydra", "hydra._internal.callbacks", "hydra._internal.hydra",
    "hydra._internal.utils", "hydra._internal.core_plugins.bash_completion",
    "hydra._internal.core_plugins.basic_launcher", "hydra._internal.core_plugins.basic_sweeper",
    "hydra._internal.core_plugins.file_config_source", "hydra._internal.core_plugins.fish_completion",
    "hydra._internal.core_plugins.importlib_resources_config_source",
    "hydra._internal.core_plugins.structured_config_source", "hydra._internal.core_plugins.zsh_completion",
    "hydra.core.override_parser.overrides_parser", "hydra.grammar.gen.OverrideLexer", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "numpy", "omegaconf", "omegaconf._impl", "pydantic.main",
    "pydantic.json_schema", "pydantic.type_adapter", "pydantic.functional_validators",
    "pydantic.plugin._schema_validator", "resource", "rich.live", "rich.progress", "rich.table", "rich._emoji_codes",
    "safetensors.torch", "secrets", "tiktoken", "tokenizers", "torch", "torch.distributed.run",
    "torch.distributed.elastic.multiprocessing.errors", "torch.utils.data", "torch.utils._device", "zoneinfo",
)  # fmt: skip
HEAVY = ("torch", "safetensors.torch", "matplotlib", "tiktoken", "tokenizers")

# Variables that an interpreter or a library reads as it is loaded, and not again; and, of their kind, later ones.
READ_AT_START = (
    *("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_"),
    *("TORCH", "PYTORCH_", "ATEN_", "MPL", "MATPLOTLIBRC", "XDG_CONFIG_HOME", "PYDANTIC_", "TZ", "RAYON_"),
)
READ_LATER = ("PYTHONPATH", "PYTHONSAFEPATH", "TORCHELASTIC_", "TORCH_NCCL_", "TORCHINDUCTOR_")

ROOT = Path(__file__).resolve().parents[2]
OURS = ("cleangpt", "hydra_plugins")
SLOW_TO_LOAD = ("cleangpt.score.harness", "cleangpt.measure")  # with libraries that few programs need
ONCE_A_PROCESS = ("cleangpt.config.cli",)  # what is drawn at random as they are loaded: the name of a run
ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SUBREAPER = 36  # of prctl: orphans among the descendants become children
NEW_INTERPRETER = subprocess.Popen._execute_child
SIGNATURE = inspect.signature(NEW_INTERPRETER)
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")

LEFT_BY_LIBRARIES = ("KMP_DUPLICATE_LIB_OK",)  # scikit-learn sets it, which lm-evaluation-harness loads
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # of a server, which no test changes
for name in ("PYTHONPATH", *LEFT_BY_LIBRARIES):
    ENVIRONMENT.pop(name, None)


def at_start(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(READ_AT_START) and not k.startswith(READ_LATER)}


class Server:
    """The asking side of a socket."""

    def __init__(self, pid: int, connection: socket.socket, variables: dict[str, str], loaded: list[str]):
        self.pid, self.connection, self.variables, self.loaded = pid, connection, variables, set(loaded)
        self.one_by_one = threading.Lock()

    def refusal(self, command: list[str], environment: dict[str, str]) -> str | None:
        """Why this can't be forked, if so."""
        if command[0] != sys.executable or len(command) == 1 or not (command[1].endswith(".py") or command[1] == "-m"):
            return "it is no program of Python's"
        if changed := {name for name, _ in at_start(environment).items() ^ self.variables.items()}:
            return f"{', '.join(sorted(changed))} is read as an interpreter starts"
        path = [Path(folder) for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
        there = {entry.stem for folder in path if folder.is_dir() for entry in folder.iterdir()}
        if loaded := there & {*self.loaded, "sitecustomize", "usercustomize"}:
            return f"{', '.join(sorted(loaded))} of PYTHONPATH is loaded already"
        return None

    def start(self, request: dict[str, Any], streams: list[int]) -> int:
        """Fork a child of this process; its number."""
        prctl = ctypes.CDLL(None).prctl
        with self.one_by_one:
            prctl(SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self.connection, [json.dumps(request).encode() + b"\n"], streams)
                told = self.connection.recv(16)
            finally:
                prctl(SUBREAPER, 0, 0, 0, 0)
        assert told, "the server that forks programs is gone"
        return int(told)


class Forked(subprocess.Popen):
    """A program that `server` starts where it can; else a new interpreter does."""

    server: Server

    def _execute_child(self, *given: Any) -> None:
        asked = SIGNATURE.bind(self, *given).arguments
        command = [asked["args"]] if isinstance(asked["args"], str) else [os.fsdecode(word) for word in asked["args"]]
        if unbuffered := command[1:2] == ["-u"]:
            del command[1]
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        plain = not (asked["shell"] or asked["preexec_fn"] or asked["pass_fds"])
        if not plain or Forked.server.refusal(command, environment):
            return NEW_INTERPRETER(self, *given)
        ends = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        umask = os.umask(0)
        os.umask(umask)
        request = {
            "command": command[1:],
            "unbuffered": unbuffered,
            "cwd": os.fspath(asked["cwd"] or os.getcwd()),
            "environment": environment,
            "session": asked["start_new_session"],
            "umask": umask if asked["umask"] == -1 else asked["umask"],
        }
        self.pid = Forked.server.start(request, [number if end == -1 else end for number, end in enumerate(ends)])
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in PIPES))


@cache
def begun(light: bool = False) -> Server:
    """A server of this process, whose children have one thread for computing; a light one has not loaded torch."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno()), *(["light"] if light else [])],
        env=ENVIRONMENT,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    with ours.makefile("rb") as answers:
        loaded = json.loads(answers.readline())

    def close() -> None:
        ours.close()
        process.wait()

    atexit.register(close)
    return Server(process.pid, ours, at_start(ENVIRONMENT), loaded)


# ---- the server


def main(number: int, light: bool) -> None:
    for name in LIBRARIES:
        if not (light and name.startswith(HEAVY)):
            importlib.import_module(name)
    sys.path[0] = str(ROOT)
    for module in pkgutil.walk_packages([str(ROOT / "cleangpt")], "cleangpt.") if not light else ():
        if not module.name.startswith(SLOW_TO_LOAD):
            importlib.import_module(module.name)
    del sys.path[0]
    _warm_up(light)
    assert not light or "torch" not in sys.modules
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started a thread, and what has threads must not fork"
    gc.collect()
    gc.freeze()  # what a child's collections need not look at, and so do not copy
    loaded = sorted(name for name in sys.modules if "." not in name and name not in OURS)
    asking = socket.socket(fileno=number)
    asking.sendall(json.dumps(loaded).encode() + b"\n")
    _serve(asking, at_start(dict(os.environ)), loaded)


def _warm_up(light: bool) -> None:
    """Read a few words as Hydra and OmegaConf do: their parsers work out their grammars as they go, and keep that; and
    compose the defaults that most trainings of tests compare themselves with."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins
    from hydra.core.singleton import Singleton
    from omegaconf import OmegaConf

    words = ["a.b=1", "c={a:1,b:[1,2]}", "d=x,y", "e='s'", "f=1e-3", "~g", "+h=null", "i=true", "j=range(1,3)"]
    OverridesParser.create().parse_overrides([*words, "k=a/b_c-d"])
    config = OmegaConf.create({"a": 1, "b": "${a}/x", "c": "${oc.env:NONE,none}", "d": "${oc.select:a,${a}}_${a}"})
    OmegaConf.to_container(config, resolve=True)
    if not light:
        from cleangpt.config import cli, composition, experiment

        cli.register_resolvers(experiment.Config)
        for words in ((), ("model=llama_tiny",), ("model=gpt_tiny",)):
            composition.defaults("train", *words)
        Singleton._instances.pop(Plugins)  # each program looks for its own


def _serve(asking: socket.socket, variables: dict[str, str], loaded: list[str]) -> None:
    """Fork what is asked for until nobody can ask any more. What ends a group of processes is for the others in it."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in ASKING_TO_END}
    while received := _receive(asking):
        request, streams = received
        held, go = os.pipe()
        told, tells = os.pipe()
        between = os.fork()  # which leaves at once, so that its child falls to whoever asks
        if between == 0:
            if os.fork():
                os._exit(0)
            if request["session"]:
                os.setsid()  # before anybody knows its number, and signals the group of that number
            os.write(tells, str(os.getpid()).encode())
            os.close(go)
            os.read(held, 1)  # until that has happened
            for number, handler in handlers.items():
                signal.signal(number, handler)
            _become(request, streams, variables, loaded)
        os.waitpid(between, 0)
        child = os.read(told, 16)
        for descriptor in (held, go, told, tells, *streams):
            os.close(descriptor)
        asking.sendall(child)


def _receive(asking: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A request of one line with its descriptors, or None at the end."""
    text, descriptors, _, _ = socket.recv_fds(asking, 1 << 20, 3)
    while text and not text.endswith(b"\n"):
        part = asking.recv(1 << 20)
        if not part:
            return None
        text += part
    return (json.loads(text), descriptors) if text else None


# ---- in the child


def _become(request: dict[str, Any], streams: list[int], variables: dict[str, str], loaded: list[str]) -> NoReturn:
    """The program that was asked for, as a new interpreter would run it."""
    status = 70
    try:
        for number, descriptor in enumerate(streams):  # which are all above 2
            os.dup2(descriptor, number)
        os.closerange(3, 1 + max(int(name) for name in os.listdir("/proc/self/fd")))
        if _starts_others(request["command"]):
            _begin_own_server(variables, loaded)
        _open_streams(request["unbuffered"] or sys.stdout.write_through)
        os.chdir(request["cwd"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        path = [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
        _forget(ours={*path} <= {str(ROOT)})
        first, *words = request["command"]
        sys.orig_argv = [sys.executable, first, *words]
        beside = os.getcwd() if first == "-m" else os.path.dirname(os.path.realpath(first))
        sys.path[:0] = path if os.environ.get("PYTHONSAFEPATH") else [beside, *path]
        sys.argv = words if first == "-m" else [first, *words]
        status = _ended(_run_module if first == "-m" else _run_file)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _starts_others(command: list[str]) -> bool:
    """Guess whether this will start programs in turn. If it does so all the same, new interpreters run them."""
    of_several = any(word in ("-m", "--multirun") or word.startswith("processes=") for word in command[1:])
    others = command[:2] != ["-m", "cleangpt"] and not command[0].startswith(str(ROOT))
    return of_several or others or "bench" in command or command[0].endswith("bench.py")


def _begin_own_server(variables: dict[str, str], loaded: list[str]) -> None:
    """What this program starts in turn is forked from what it is now, before it has done anything."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            os.dup2(null := os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(null, 1), os.dup2(null, 2), os.close(null)
            _serve(theirs, variables, loaded)
        finally:
            os._exit(0)
    theirs.close()
    Forked.server = Server(child, ours, variables, loaded)
    subprocess.Popen._execute_child = Forked._execute_child


def _open_streams(unbuffered: bool) -> None:
    """Standard input, output and error, as an interpreter makes them at its start."""
    for number, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        before, at_once = getattr(sys, name), unbuffered and number > 0
        file = open(number, mode, 0 if at_once else -1, closefd=False)  # noqa: SIM115  it stays open
        raw = file if at_once else file.raw
        raw.name = f"<{name}>"
        stream = io.TextIOWrapper(
            file,
            before.encoding,
            before.errors,
            "\n" if number else None,
            line_buffering=raw.isatty() or (number == 2 and not at_once),
            write_through=at_once,
        )
        stream.mode = mode[0]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget(ours: bool) -> None:
    """What the server's own life has left behind, and what a new interpreter draws at random. Where there are other
    places to look for modules, ours are loaded anew, since they may be there, or look for others that are."""
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # `random` sees to itself
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    for name in ONCE_A_PROCESS:
        if ours and name in sys.modules:
            importlib.reload(sys.modules[name])
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS and not ours]:
        del sys.modules[name]


def _main_module(**more: Any) -> dict[str, Any]:
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__, **more)
    return module.__dict__


def _run_file() -> None:
    names = _main_module(__file__=sys.argv[0], __cached__=None)
    try:
        with io.open_code(sys.argv[0]) as file:
            source = file.read()
    except OSError as error:
        path, why = os.path.abspath(sys.argv[0]), f"[Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: can't open file {path!r}: {why}\n")
        raise SystemExit(2) from None
    exec(compile(source, sys.argv[0], "exec"), names)


def _run_module() -> None:
    _main_module()
    runpy._run_module_as_main(sys.argv[0])


def _ended(run: Any) -> int:
    """Run this and end as an interpreter would; the exit status."""
    status, interrupted = 0, False
    try:
        run()
    except SystemExit as leaving:
        status = _status(leaving.code)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:  # it was closed
            continue
        except OSError as error:
            sys.stderr.write(f"Exception ignored on flushing sys.stdout:\n{type(error).__name__}: {error}\n")
            status = 120
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status


def _status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stdout.flush()
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main(int(sys.argv[1]), light="light" in sys.argv)
