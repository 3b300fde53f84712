"""Compare how runs, or the parts of one that was resumed, were computed: in which dtype, where, by how many threads.

None of it is meant to change what a run finds, but each rounds otherwise, and a dtype does so coarsely. It is read off
the machines that run.json tells of, one a part of the run.
"""

from collections.abc import Iterable
from typing import Any

from cleangpt.basics.words import counted, listed

ASPECTS = ("dtype", "device", "threads", "processor")
PINS = {"dtype": "dtype=", "device": "device=", "threads": "OMP_NUM_THREADS"}  # what makes them alike
NAMES = 3  # of runs that share a value; more are counted


def aspects(machine: dict[str, Any]) -> dict[str, Any]:
    """Name what of a machine rounds in its own way, as far as it is known; of the CPU only where that computes."""
    kind = machine.get("device_type")
    known = ASPECTS if kind == "cpu" else ("dtype", "device") if kind else ("dtype",)
    found = {**machine, "device": "cpu"} if kind == "cpu" else machine
    return {name: found[name] for name in known if found.get(name) is not None}


def throughout(machines: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """List each aspect of the parts of a run, in their order: one value where all parts were alike."""
    found: dict[str, list[Any]] = {}
    for machine in machines:
        for name, value in aspects(machine).items():
            values = found.setdefault(name, [])
            if values[-1:] != [value]:
                values.append(value)
    return found


def differing(runs: Iterable[dict[str, list[Any]]]) -> list[str]:
    """Name the aspects in which these runs differ, from each other or within one."""
    every = list(runs)
    return [name for name in ASPECTS if len({value for run in every for value in run.get(name, [])}) > 1]


def shown(values: list[Any]) -> str:
    return " then ".join(map(str, values))


def sentence(runs: dict[str, dict[str, list[Any]]], kind: str = "runs") -> str | None:
    """Say in what runs were not computed alike, by their names; nothing where they were."""
    if not (names := differing(runs.values())):
        return None
    found = []
    for name in names:
        owners: dict[str, list[str]] = {}
        for run, told in runs.items():
            if name in told:
                owners.setdefault(shown(told[name]), []).append(run)
        found.append(f"{name} " + ", ".join(f"{value} ({listed(those, NAMES)})" for value, those in owners.items()))
    what = f"These {kind} were" if len(runs) > 1 else "The parts of this run were"
    pins = [PINS[name] for name in names if name in PINS]
    pinned = f" Pin that with {listed(pins)}." if pins else ""
    return f"{what} not computed alike: {'; '.join(found)}. For that alone their results may differ.{pinned}"


def continued(began: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Say how a run goes on otherwise than it began, by the machines of run.json; nothing where it does not."""
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
