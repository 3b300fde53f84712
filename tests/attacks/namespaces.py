"""Several nodes on one Linux machine: network namespaces with an address, a host name and a private disk each.

All of them are children of one process that has namespaces of processes, networks and mounts of its own. Nothing has a
name outside of it, and whatever ends it, Ctrl-C and SIGKILL included, ends all of them.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

OWN = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
TOOLS = ("ip", "unshare", "nsenter", "setpriv")
TRIAL = "ip link add first type veth peer name second && ip link add bridge type bridge && mount -t tmpfs none /mnt"
LOOK_EVERY = 0.05  # seconds
Condition = Callable[[], bool]


def missing() -> str | None:
    """Say why this machine can't hold several nodes, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can make network namespaces, and only on Linux"
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{lacking[0]} is not installed (util-linux and iproute2 have what it needs)"
    tried = subprocess.run([*OWN, "sh", "-c", TRIAL], capture_output=True, text=True, timeout=60)
    return (tried.stderr.strip() or "unshare failed") if tried.returncode else None


def inside(*command: str) -> int:
    """Run a command that may make nodes, with a temporary folder as its last argument; its exit status."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as folder:
        child = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *OWN, *command, folder], process_group=0)
        try:
            return child.wait()
        finally:
            child.kill()
            child.wait()
            time.sleep(0.2)  # for the processes in there to be gone, which write to the folder


def happens(condition: Condition, seconds: float) -> bool:
    """Wait until something is so, but not for ever."""
    deadline = time.monotonic() + seconds
    while not (so := condition()) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    return so


class Node:
    """A machine of the cluster: what runs on it ends with it."""

    def __init__(self, number: int, folder: Path, private: Path | None):
        """Make a node. `private` is a folder of the others in whose place it has an empty disk."""
        self.number, self.name, self.address = number, f"node{number}", f"10.77.0.{number + 1}"
        self.folder = folder / self.name
        self.folder.mkdir()
        hides = f"mount -t tmpfs none {private} &&" if private else ""
        hosts = f"mount --bind {folder / 'hosts'} /etc/hosts"
        setup = f"hostname {self.name} && {hosts} && {hides} ip link set lo up && echo ready && exec sleep infinity"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c", setup], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout
        assert self.holder.stdout.readline() == "ready\n", "a node was not made"
        link = f"ip link add {self.name} type veth peer name eth0 netns {self.holder.pid}"
        _shell(f"{link} && ip link set {self.name} master bridge up")
        self.run(f"ip addr add {self.address}/24 dev eth0 && ip link set eth0 up")

    def inside(self, *command: str) -> list[str]:
        """Make the command that runs another one on this node."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--uts", "--mount", f"--wd={self.folder}", *command]

    def run(self, command: str) -> str:
        """Run a short command on this node; what it prints."""
        return subprocess.run(
            self.inside("sh", "-c", command), check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def network(self, up: bool) -> None:
        """Take this node from the network, or back: what is sent to it is lost, and nobody is told."""
        _shell(f"ip link set {self.name} {'up' if up else 'down'}")


class Cluster:
    """Nodes on one network. `first` is a folder that only the first has, and all of them see `shared`."""

    def __init__(self, folder: Path, size: int):
        self.first, self.shared = folder / "first", folder / "shared"
        self.first.mkdir()
        self.shared.mkdir()
        names = "".join(f"10.77.0.{number + 1} node{number}\n" for number in range(size))
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        _shell("ip link set lo up && ip link add bridge type bridge forward_delay 0 && ip link set bridge up")
        self.nodes = [Node(number, folder, self.first if number else None) for number in range(size)]
        self.port = 29500

    def new_port(self) -> int:
        self.port += 1
        return self.port


class Job:
    """One command on each of some nodes."""

    def __init__(self, nodes: Sequence[Node], commands: Sequence[Sequence[str]]):
        self.nodes, self.commands = list(nodes), list(commands)
        self.begun = time.monotonic()
        for node in nodes:
            (node.folder / "said.txt").unlink(missing_ok=True)
        self.processes = [self._start(index) for index in range(len(self.nodes))]

    def _start(self, index: int) -> subprocess.Popen:
        """Start the command on a node, in a namespace of processes, which all end with the first of them.

        Their numbers are others each time, since torchrun knows a launcher by its host's name and its number.
        """
        node = self.nodes[index]
        first = f'echo {random.randrange(100, 30000)} >/proc/sys/kernel/ns_last_pid; "$@"; exit $?'
        own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", first, "first")
        own += tuple(self.commands[index])
        with (node.folder / "said.txt").open("a") as said:
            return subprocess.Popen(node.inside(*own), stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def signal(self, index: int, number: int = signal.SIGTERM) -> None:
        """Send a signal to the command of a node itself."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(_child(_child(self.processes[index].pid)), number)

    def kill(self, index: int) -> None:
        """End all processes of a node at once, as the end of the machine does."""
        self.processes[index].kill()
        self.processes[index].wait()

    def again(self, index: int) -> None:
        """Start the same command on a node that was killed."""
        self.processes[index] = self._start(index)

    def wait(self, seconds: float, which: Sequence[int] | None = None) -> list[int | None]:
        """Wait until all commands, or some of them, have ended; their exit statuses, none for one that goes on."""
        chosen = [self.processes[index] for index in (range(len(self.nodes)) if which is None else which)]
        happens(lambda: all(process.poll() is not None for process in chosen), seconds)
        return [process.poll() for process in chosen]

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        for index in range(len(self.processes)):
            self.kill(index)

    def said(self, last: int = 12) -> str:
        """Show the last lines of what each node said."""
        texts = [(node.folder / "said.txt").read_text().splitlines()[-last:] for node in self.nodes]
        return "\n".join(
            f"  {node.name}| {line}" for node, lines in zip(self.nodes, texts, strict=True) for line in lines
        )


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _shell(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, re.sub(r"\s+", " ", done.stderr)
