"""Make small, exact values of what programs leave: digests, hexadecimal floats, settings by their full names."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TIMES = {
    "tokens_per_second": 1000.0,
    "data_wait": 0.0,
    "memory_gb": 1.0,
    "train_seconds": 1.0,
}  # in metrics.jsonl and summary.json


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hexadecimal(numbers: Iterable[float]) -> str:
    return " ".join(float(number).hex() for number in numbers)


def joined(values: Iterable[Any]) -> str:
    return " ".join(map(str, values))


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings as {"model.n_layer": 2, …}."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {key: leaf for part, item in value.items() for key, leaf in flat(item, f"{name}.{part}".strip(".")).items()}


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES and key != "seconds"}


def weights(path: Path) -> str:
    """A digest of names, types, shapes and bytes of the tensors in a safetensors file."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:begin])
    tensors.pop("__metadata__", None)
    found = hashlib.sha256()
    for name, about in sorted(tensors.items()):
        found.update(f"{name} {about['dtype']} {about['shape']}\n".encode())
        found.update(data[begin + about["data_offsets"][0] : begin + about["data_offsets"][1]])
    return found.hexdigest()


def without_times(run: Path) -> None:
    """Give a run the same times, commit and machine whenever and wherever it was made, for the report."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    fixed = [{**line, **{key: TIMES[key] for key in TIMES if key in line}, "seconds": line["step"]} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in fixed))
    summary = read(run / "summary.json")
    summary |= {key: TIMES[key] for key in TIMES if key in summary}
    (run / "summary.json").write_text(json.dumps({**summary, "seconds": 1.0}))
    about = {**read(run / "run.json"), "started": "2026-01-01T00:00:00+0000", "git": None}
    about["machine"] |= {"host": "host", "cores": 1}
    (run / "run.json").write_text(json.dumps(about))
