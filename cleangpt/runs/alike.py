"""Whether runs, or the parts of one that was resumed, were computed alike: in which dtype, where, by how many threads.

None of it is meant to change what a run finds, but each rounds otherwise, and a dtype does so coarsely. It is read off
the machines that run.json tells of, one a part of the run.
"""

from collections.abc import Iterable
from typing import Any

from cleangpt.basics.words import counted

ASPECTS = ("dtype", "device", "threads", "processor")
PINS = {"dtype": "dtype=", "device": "device=", "threads": "OMP_NUM_THREADS"}  # what makes them alike
NAMES = 3  # of runs that share a value; more are counted


def aspects(machine: dict[str, Any]) -> dict[str, Any]:
    """What of a machine rounds in its own way, by name: what is known of it, and of the CPU only where it computes."""
    kind = machine.get("device_type")
    found = {
        "dtype": machine.get("dtype"),
        "device": "cpu" if kind == "cpu" else machine.get("device") if kind else None,
    }
    if kind == "cpu":
        found |= {name: machine.get(name) for name in ("threads", "processor")}
    return {name: value for name, value in found.items() if value is not None}


def throughout(machines: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Each aspect of the parts of a run, in their order: one value where all parts were alike."""
    found: dict[str, list[Any]] = {}
    for machine in machines:
        for name, value in aspects(machine).items():
            values = found.setdefault(name, [])
            if values[-1:] != [value]:
                values.append(value)
    return found


def differing(runs: Iterable[dict[str, list[Any]]]) -> list[str]:
    """The aspects in which these runs differ, from each other or within one."""
    every = list(runs)
    return [name for name in ASPECTS if len({value for run in every for value in run.get(name, [])}) > 1]


def shown(values: list[Any]) -> str:
    return " then ".join(map(str, values))


def sentence(runs: dict[str, dict[str, list[Any]]], kind: str = "runs") -> str | None:
    """In what runs differ, by their names; nothing where they are alike."""
    if not (names := differing(runs.values())):
        return None
    found = []
    for name in names:
        owners: dict[str, list[str]] = {}
        for run, told in runs.items():
            if name in told:
                owners.setdefault(shown(told[name]), []).append(run)
        found.append(f"{name} " + ", ".join(f"{value} ({_listed(those)})" for value, those in owners.items()))
    what = f"These {kind} were" if len(runs) > 1 else "The parts of this run were"
    pins = [PINS[name] for name in names if name in PINS]
    pinned = f" Pin that with {_listed(pins)}." if pins else ""
    return f"{what} not computed alike: {'; '.join(found)}. For that alone their results may differ.{pinned}"


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMES
    if rest > 1:
        return f"{', '.join(names[:NAMES])} and {rest} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def continued(began: dict[str, Any], now: dict[str, Any]) -> str | None:
    """How a run goes on otherwise than it began, as machines of run.json tell; nothing where it does not."""
    before, here = aspects(began), aspects(now)
    differs = [name for name in ASPECTS if name in before and name in here and before[name] != here[name]]
    if not differs:
        return None
    was, is_now = (" ".join(_words(name, machine[name]) for name in differs) for machine in (before, here))
    return f"begun {was}, continued {is_now}: the same samples in the same order, but sums may be rounded otherwise"


def _words(name: str, value: Any) -> str:
    if name == "threads":
        return f"with {counted(value, 'thread')}"
    return f"in {value}" if name == "dtype" else "on the CPU" if value == "cpu" else f"on {value}"
