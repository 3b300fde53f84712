"""Say in which values two makings differ, and on which kind of machine they should not."""

import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

GONE = ("model.value_embeddings",)  # settings of older commits that later ones may lack
USUAL = 1e-3  # relative tolerance of numbers on another kind of machine
TOLERANCE = {"bfloat16": 2e-2, "growing": 0.1, "resumed": 0.1}  # dropout draws other masks on some processors


def machine() -> str:
    """Name what bits depend on: the kind of processor, what torch makes of it, and torch itself."""
    import torch

    about = {}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    vendor = about.get("vendor_id") or about.get("CPU implementer") or platform.system()
    vendor = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(vendor, vendor)
    family = about.get("cpu family") or about.get("CPU part") or platform.machine()
    parts = (vendor, family, about.get("model", ""), torch.backends.cpu.get_cpu_capability())
    return "_".join(part for part in parts if part).lower() + "_torch" + version("torch").partition("+")[0]


def differences(want: Any, got: Any, tolerance: float | None = None) -> list[str]:
    """Say what of one maker's values is not as it was, a line each; with a tolerance, as on two kinds of machines."""
    if isinstance(want, str) or isinstance(got, str):  # what a program said that failed
        return [] if want == got else [_change(want, got)]
    found = _settings(want["settings"], got["settings"])
    for kind in ("anywhere", "near") if tolerance else ("anywhere", "near", "here"):
        for name, value in want[kind].items():
            now = got[kind].get(name)
            alike = near(value, now, tolerance) if tolerance and now and kind == "near" else value == now
            found += [] if alike else [f"{name}: {_change(value, now)}"]
        found += [f"{name}: is new" for name in got[kind] if name not in want[kind]]
    return found


def _settings(want: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Settings that were there have the values that they had; others may have been added."""
    found = []
    for name, settings in want.items():
        now = got.get(name, {})
        for key, value in settings.items():
            if key not in now and key not in GONE:
                found.append(f"{name} {key}: was {value!r}, is gone")
            elif key in now and now[key] != value:
                found.append(f"{name} {key}: was {value!r}, is {now[key]!r}")
    return found


def near(want: str, got: str, tolerance: float) -> bool:
    numbers, others = ([float.fromhex(number) for number in text.split()] for text in (want, got))
    pairs = zip(numbers, others, strict=False)
    close = all(math.isclose(number, other, rel_tol=tolerance, abs_tol=1e-9) for number, other in pairs)
    return close and len(numbers) == len(others)


def _change(was: Any, now: Any) -> str:
    """Say what changed; of lists and lines of numbers the first that did."""
    if isinstance(was, str) and isinstance(now, str) and was.startswith(("0x", "-0x")):
        was, now = ([repr(float.fromhex(number)) for number in text.split()] for text in (was, now))
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        n = next((n for n in range(len(was)) if was[n] != now[n]), 0)
        return f"{n + 1} of {len(was)} was {_short(was[n])}, is {_short(now[n])}"
    return f"was {_short(was)}, is {_short(now)}"


def _short(value: Any) -> str:
    return str(value) if len(str(value)) < 500 else f"{str(value)[:500]}…"
