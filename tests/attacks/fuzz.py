"""Damaged and hostile files: open folders that somebody else may have made, and see how each program takes it.

    make fuzz
    python tests/attacks/fuzz.py 0.1 seed=7

Every file of a run, of prepared text and of a folder in Hugging Face's format is truncated, flipped, emptied, replaced
by other JSON, or changed in one value; the manifest of a snapshot may agree with it, as a hostile one would. An opening
is right when it works, or ends in one sentence. Each is a process forked from one that has torch loaded, with little
time and memory.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CLEANGPT_PATIENCE": "inf"}
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import tiktoken_ext.openai_public  # noqa: E402, F401 - what a child would have to load
import tokenizers  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401
from helpers.corpora import prepared, prose  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from attacks import openings  # noqa: E402
from cleangpt.basics import files  # noqa: E402
from cleangpt.basics.errors import UserError  # noqa: E402
from cleangpt.disk import weights  # noqa: E402
from cleangpt.sharding.parts import rows_of  # noqa: E402
from cleangpt.snapshots import snapshot  # noqa: E402
from cleangpt.stored import pieces, tensorfile  # noqa: E402
from cleangpt.training.finite import NonFinite  # noqa: E402

SECONDS = 20  # an opening may take
MEMORY = 8 << 30  # more than the process has already
TINY = ("model.n_layer=1", "model.n_embd=8", "model.n_head=1", "model.n_kv_head=1", "logger.plots=false")
SHORT = ("train.batch_size=4", "train.snapshot_every=2", "train.eval_every=2", "train.test_at_end=true")
READ = (".json", ".jsonl", ".safetensors", ".tokens")
RIGHT = ("works", "sentence")
OUTCOMES = (*RIGHT, "several lines", "traceback", "hang", "crash")

Mutation = Callable[[bytes, random.Random], bytes]


# ---- what is done to a file


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 8]) if content else 0):
        place = draw.randrange(min(len(changed), draw.choice([64, 1 << 30])))  # often in a header
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def emptied(content: bytes, draw: random.Random) -> bytes:
    return b""


OTHER = (b"0", b"[]", b"null", b'"text"', b"{}", b'{"a": 1}', b"[[1, 2], {}]", b"true", b"1e999", b"NaN", b"-1")
OTHER += (b"\xff\xfe\x00", b"9" * 5000, b"[" * 100_000, b'{"a":' * 100_000, b"\x00" * 4096, b'{"kind": []}')


def other(content: bytes, draw: random.Random) -> bytes:
    return draw.choice(OTHER)


VALUES = (0, -1, 1, 2, 10**9, 10**12, 2**40, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.5, 1e308, float("nan"))
VALUES += (float("inf"), None, True, False, "", "text", "../../x", "\x1b[2J\x07", "=1+1", "\ud800", "0", [], {}, [[]])
VALUES += ([1, "a", None], {"a": {"b": 1}}, [0] * 1000, "x" * 100_000, "O", "auto", "/", "\0")


def leaf(content: bytes, draw: random.Random) -> bytes:
    """One value of the JSON that a file holds, or begins with, is another one, or not there, or a key is new."""
    lines = content.split(b"\n")
    number = draw.randrange(len(lines)) if len(lines) > 1 and not content.startswith(b"{\n") else None
    head, text, tail = _json_in(content) if number is None else (b"", lines[number], b"")
    try:
        data = json.loads(text)
    except ValueError:
        return flipped(content, draw)
    places = list(_places(data))
    if not places:
        return json.dumps(draw.choice(VALUES)).encode()
    holder, key = draw.choice(places)
    what = draw.random()
    if what < 0.1 and isinstance(holder, dict):
        del holder[key]
    elif what < 0.15 and isinstance(holder, dict):
        holder[draw.choice(["new", "_target_", "", "name", "\x1b[31m"])] = draw.choice(VALUES)
    else:
        holder[key] = draw.choice(VALUES)
    made = json.dumps(data).encode()
    if number is None:
        return _with_head(head, made, len(text), tail)
    lines[number] = made
    return b"\n".join(lines)


def _places(data: Any) -> Any:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield data, key
        yield from _places(value)


def _json_in(content: bytes) -> tuple[bytes, bytes, bytes]:
    if content.startswith(b"CleanGPT"):  # tokens: the JSON fills a block
        return content[:8], content[8:4096], content[4096:]
    if content[8:9] == b"{":  # safetensors: its length, its JSON, its tensors
        end = 8 + int.from_bytes(content[:8], "little")
        return content[:8], content[8:end], content[end:]
    return b"", content, b""


def _with_head(head: bytes, made: bytes, length: int, tail: bytes) -> bytes:
    if head == b"CleanGPT":
        return head + made.ljust(length)[:length] + tail
    return (len(made).to_bytes(8, "little") if head else b"") + made + tail


def numbers(content: bytes, draw: random.Random) -> bytes:
    """Weights that are not finite, or of another type; tokens that are no token."""
    head, text, tail = _json_in(content)
    if not head:
        return leaf(content, draw)
    if head == b"CleanGPT" or draw.random() < 0.5:
        tail = bytearray(tail)
        for _ in range(8):
            place = draw.randrange(max(1, len(tail) // 4)) * 4
            tail[place : place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\xc0\x7f", b"\0\0\x80\x7f"])
        return head + text + bytes(tail[: len(content) - len(head) - len(text)])
    kinds = {"F32": ["I32", "U32", "F64", "I64", "BF16", "BOOL", "F8_E4M3", "X"]}
    text = json.loads(text)
    for about in text.values():
        if "dtype" in about:
            about["dtype"] = draw.choice(kinds.get(about["dtype"], ["F32"]))
    return _with_head(head, json.dumps(text).encode(), 0, bytes(tail))


MUTATIONS: dict[str, tuple[Mutation, int]] = {  # with how often they come
    "truncated": (truncated, 2),
    "bits flipped": (flipped, 3),
    "emptied": (emptied, 1),
    "other JSON": (other, 3),
    "another value": (leaf, 8),
    "other numbers": (numbers, 2),
}


# ---- what is opened


class Kinds:
    """Folders of each kind, made once, and who opens them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.run, self.text, self.data, self.hf = (folder / name for name in ("run", "text", "data", "hf"))
        prepared(folder, prose(400), test_fraction=0.2)
        arithmetic = ("dataset.digits=1", "train.steps=4", *TINY, *SHORT)
        text = ("train.steps=4", "model.block_size=16", "dataset.tokenizer=characters", *TINY, *SHORT)
        for make in (
            lambda: openings.train_new(self.run, "model=llama_tiny", *arithmetic),
            lambda: openings.train_on(self.data, self.text, "model=llama_tiny", *text),
            lambda: openings.export(self.run, self.hf),
            lambda: openings.score(self.run),
        ):
            status, said = in_child(make, folder)
            assert status == "works", said
        self.parts = folder / "parts"
        shutil.copytree(self.run, self.parts, ignore=shutil.ignore_patterns("best", "final"))
        cut(self.parts / "snapshots" / "step_00000004", 3)

    def openings(self) -> dict[str, tuple[Path, Callable[[Path, Path], int], str]]:
        """By name: the folder, what opens a copy of it (and writes to another folder), and the files that it reads."""
        train = ("train.steps=5", "dataset.digits=1")
        block = ("train.steps=1", "model.block_size=16", "model=llama_tiny", *TINY)
        reads = "**/*"
        about = "*.json*"
        return {
            "train.py resume": (self.run, lambda copy, out: openings.train(copy, "train.steps=6"), reads),
            "train.py resume, text": (self.text, lambda copy, out: openings.train(copy, "train.steps=6"), reads),
            "train.py init_from": (self.run, lambda copy, out: openings.train_from(copy, out, *train), "best/*"),
            "train.py init_from, hf": (self.hf, lambda copy, out: openings.train_from(copy, out, *train), reads),
            "train.py on text": (self.data, lambda copy, out: openings.train_on(copy, out, *block), reads),
            "score.py": (self.run, lambda copy, out: openings.score(copy), "best/*"),
            "score.py, snapshot": (
                self.run,
                lambda copy, out: openings.score(copy / "snapshots" / "step_00000004"),
                "snapshots/*/*",
            ),
            "train.py resume, in parts": (
                self.parts,
                lambda copy, out: openings.train(copy, "train.steps=6"),
                "snapshots/*/*",
            ),
            "score.py, in parts": (
                self.parts,
                lambda copy, out: openings.score(copy / "snapshots" / "step_00000004"),
                "snapshots/*/*",
            ),
            "score.py, text": (self.data, lambda copy, out: openings.score(self.text, data=str(copy)), reads),
            "sample.py": (self.run, lambda copy, out: openings.sample(copy), "best/*"),
            "sample.py, text": (self.text, lambda copy, out: openings.sample(copy), "best/*"),
            "export.py": (self.run, lambda copy, out: openings.export(copy, out), "best/*"),
            "export.py, hf": (self.hf, lambda copy, out: openings.export(copy, out, format="cleangpt"), reads),
            "report.py": (self.run, lambda copy, out: openings.report(copy, out), about),
        }


def cut(folder: Path, count: int) -> None:
    """Make a snapshot one that so many processes wrote."""
    names = [weights.WEIGHTS, snapshot.OPTIMIZER]
    whole = [pieces.Stored([folder / name], in_pieces=False) for name in names]
    found = {name: stored for stored in whole for name in stored.shapes}
    for place in range(count):
        tensors, places = {}, {}
        for name, stored in found.items():
            shape = stored.shapes[name]
            first, end = rows_of(shape[0] if shape else 1, place, count)
            if len(shape) > 1:
                tensors[name] = stored.rows(name, first, end)
                places[name] = {"first": first, "shape": list(shape)}
            elif place == 0:
                tensors[name] = stored.rows(name)
        about = {"cleangpt": json.dumps({"step": 4, "pieces": places})}
        path = folder / pieces.shard_name(place, count)
        files.replace(path, lambda file, tensors=tensors, about=about: tensorfile.write(file, tensors, about))
    for name in names:
        (folder / name).unlink()
    stated = files.read_json(folder / snapshot.MANIFEST)
    stated["files"] = {}
    for path in sorted(folder.iterdir()):
        if path.name != snapshot.MANIFEST:
            stated["files"][path.name] = {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
    (folder / snapshot.MANIFEST).write_text(json.dumps(stated), encoding="utf-8")


def in_child(opens: Callable[[], int], folder: Path) -> tuple[str, str]:
    """How an opening in a process of its own ends, and what it said."""
    said = folder / "said"
    child = os.fork()
    if child == 0:
        _open(opens, said)
    deadline = time.monotonic() + SECONDS
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"more than {SECONDS} s"
        time.sleep(0.002)
    status = os.waitstatus_to_exitcode(found[1])
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    if status < 0:
        return "crash", signal.Signals(-status).name
    return {0: "works", 2: "sentence", 3: "several lines"}.get(status, "traceback"), text


def _open(opens: Callable[[], int], said: Path) -> None:
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(quiet, handle)
        os.chdir(said.parent)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY,) * 2)
        status = opens()
    except (UserError, NonFinite) as error:  # numbers may be what they say, and too large to go on with
        status = 2 if str(error).isprintable() and error.args[0] else 3
        said.write_text(str(error), encoding="utf-8", errors="replace")
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "cleangpt" in frame.filename] or frames
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        with contextlib.suppress(BaseException):
            said.write_text(f"{where} {type(error).__name__}: {str(error)[:150]}", encoding="utf-8", errors="replace")
    finally:
        os._exit(status)


def files_of(source: Path, pattern: str) -> list[Path]:
    return sorted(path.relative_to(source) for path in source.glob(pattern) if path.suffix in READ)


def renewed(source: Path, copy: Path) -> Path:
    shutil.rmtree(copy.parent, ignore_errors=True)
    return shutil.copytree(source, copy)


def agree(path: Path) -> None:
    """Have the manifest of a snapshot say of a changed file what it is now."""
    manifest = path.parent / snapshot.MANIFEST
    if manifest.exists() and path != manifest:
        stated = files.read_json(manifest)
        stated["files"][path.name] = {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
        manifest.write_text(json.dumps(stated), encoding="utf-8")


def fuzz(folder: Path, count: int, seed: int) -> int:
    """So many openings; the exit status."""
    copy, out = folder / "case" / "copy", folder / "case" / "out"
    openers = Kinds(folder).openings()
    for name, (source, opens, _) in openers.items():  # what nobody has touched works
        renewed(source, copy)
        outcome, said = in_child(lambda opens=opens: opens(copy, out), copy.parent)
        assert outcome == "works", (name, said)
    table: dict[str, Counter] = {}
    wrong: dict[str, list[str]] = {}
    often = [1 if name == "report.py" else 4 for name in openers]
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        name = draw.choices(list(openers), often)[0]
        source, opens, pattern = openers[name]
        kind = draw.choices(list(MUTATIONS), [often for _, often in MUTATIONS.values()])[0]
        file = draw.choice(files_of(source, pattern))
        path = renewed(source, copy) / file
        path.write_bytes(MUTATIONS[kind][0](path.read_bytes(), draw))
        if draw.random() < 0.8:
            agree(path)
        outcome, said = in_child(lambda opens=opens: opens(copy, out), copy.parent)
        table.setdefault(name, Counter())[outcome] += 1
        if outcome not in RIGHT:
            wrong.setdefault(f"{outcome}: {said}", []).append(f"number {number}: {name}, {file} {kind}")
    return report(table, wrong)


def report(table: dict[str, Counter], wrong: dict[str, list[str]]) -> int:
    shown = Table(title="Openings of damaged and hostile files", title_justify="left")
    for name in ("opened by", *OUTCOMES):
        shown.add_column(name, justify="left" if name == "opened by" else "right")
    whole: Counter = Counter()
    for name, found in sorted(table.items()):
        shown.add_row(name, *(str(found[outcome]) for outcome in OUTCOMES))
        whole += found
    shown.add_row("all", *(str(whole[outcome]) for outcome in OUTCOMES))
    for what, places in sorted(wrong.items(), key=lambda item: -len(item[1])):
        print(f"{len(places)}× {what!r}\n    {places[0]}")
    Console(width=120).print(shown)
    total, right = sum(whole.values()), sum(whole[outcome] for outcome in RIGHT)
    print(f"{total} openings, {right} right: {'good' if right == total else 'NOT GOOD'}")
    return 0 if right == total else 1


def main(words: list[str]) -> int:
    scale = float(words[0]) if words else 1.0
    seed = next((int(word.removeprefix("seed=")) for word in words if word.startswith("seed=")), 0)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return fuzz(Path(folder), max(1, round(3000 * scale)), seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
