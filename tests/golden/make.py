"""Make golden values: losses, weights, scores, texts, reports and configurations of small runs, bit by bit.

python tests/golden/make.py                      # write the values of this kind of machine, beside this file
python tests/golden/make.py --against main~3     # make them with another commit too, and say what differs
python tests/golden/make.py --against HEAD --only text adder

A change that should not alter what is computed is held against them (tests/test_golden.py), and one that should alters
exactly the values that it means to. Only command lines and the files of a run directory are used here, nothing that is
imported from the project, so that this file makes the values of any commit.

Bits depend on the processor and on torch, so each kind of machine has a file of its own. A value is of one of four
kinds: `anywhere` is the same on every machine, `settings` too, though keys may be added; `near` are numbers that differ
by rounding on other machines (as hexadecimal floats, in the order of the steps), `here` is what is the same on this
kind of machine only.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from golden.compare import differences, machine  # noqa: E402
from golden.exact import digest, flat, hexadecimal, joined, read, timeless, weights, without_times  # noqa: E402

AT_ONCE = 2
NEAR = 20  # steps whose numbers are held against those of other machines: rounding grows with the steps
COMMON = ("device=cpu", "processes=1", "dtype=float32", "compile=false", "logger=quiet", "train.log_every=1")

Flat = dict[str, Any]
Started = Callable[[list[str], Path, dict[str, str]], subprocess.CompletedProcess]


def started(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@dataclass
class Maker:
    """A folder to work in, the programs of one commit, and the values that they made so far."""

    folder: Path
    code: Path = ROOT
    started: Started = started
    anywhere: Flat = field(default_factory=dict)
    settings: Flat = field(default_factory=dict)
    near: Flat = field(default_factory=dict)
    here: Flat = field(default_factory=dict)

    def values(self) -> Flat:
        return {"anywhere": self.anywhere, "settings": self.settings, "near": self.near, "here": self.here}

    def run(self, program: str, *words: str) -> str:
        """Run a program to its end; return what it printed."""
        launched = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        environment = {name: value for name, value in os.environ.items() if name not in launched}
        environment |= {"OMP_NUM_THREADS": "1", "CLEANGPT_PATIENCE": "inf", "PYTHONPATH": str(self.code)}
        command = [sys.executable, str(self.code / program), *words]
        done = self.started(command, self.folder, environment)
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def train(self, name: str, *words: str) -> Path:
        """Train in a folder of this name, and keep what came of it."""
        self.run("train.py", *COMMON, f"hydra.run.dir={name}", *words)
        self.keep(name)
        return self.folder / name

    def keep(self, name: str) -> None:
        """Keep the configuration of a run, what it logged, its end and its final weights."""
        folder = self.folder / name
        self.settings[name] = flat(read(folder / "config.json"))
        del self.settings[name]["version"]  # says what keys there are, which is compared itself
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        self.anywhere[f"{name} steps"] = joined(line["step"] for line in lines)
        self.anywhere[f"{name} columns"] = joined(sorted(set().union(*lines)))
        first = [line for line in lines if line["step"] <= NEAR]
        for column in ("train/loss", "val/loss", "lr", "grad_norm"):
            kept = self.here if column == "grad_norm" else self.near
            kept[f"{name} {column}"] = hexadecimal(line[column] for line in first if column in line)
        self.here[f"{name} metrics"] = digest(json.dumps([timeless(line) for line in lines]).encode())
        self.here[f"{name} summary"] = timeless(read(folder / "summary.json"))
        self.here[f"{name} final weights"] = weights(folder / "final" / "model.safetensors")
        self.anywhere[f"{name} tokenizer"] = digest((folder / "final" / "tokenizer.json").read_bytes())

    def score(self, run: str, *words: str) -> None:
        self.run("eval/score.py", f"run={run}", "device=cpu", *words)

    def keep_scores(self, name: str) -> None:
        """Keep the score files of a run: which there are, their fields, and what they say."""
        for path in sorted((self.folder / name / "score").glob("*.json")):
            found = timeless(read(path))
            self.anywhere[path.name] = joined(found)
            for key, value in found.items():
                kept = self.anywhere if key in ("universe", "problems", "windows", "tokens") else self.here
                kept[f"{path.name} {key}"] = value if isinstance(value, str) else json.dumps(value)

    def sample(self, name: str, run: str, prompts: list[str], *options: str) -> None:
        """Keep the texts that a run writes after these prompts."""
        (self.folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
        self.run("sample.py", f"run={run}", "device=cpu", "prompts=prompts.txt", f"output={name}.jsonl", *options)
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        self.anywhere[f"{name} fields"] = [joined(json.loads(line)) for line in lines]
        self.here[name] = lines

    def export(self, run: str, out: str) -> None:
        self.run("export.py", f"run={run}", f"out={out}")
        self.here[f"{out} weights"] = weights(self.folder / out / "model.safetensors")
        self.settings[out] = flat(read(self.folder / out / "config.json"))
        self.anywhere[f"{out} tokenizer"] = digest((self.folder / out / "tokenizer.json").read_bytes())

    def prepare(self, folder: str, *words: str) -> None:
        """Prepare a text that is written here: sentences of a small language, in documents."""
        draw = random.Random(1)
        language = [draw.choice("bdfglmnrst") + draw.choice("aeiou") + draw.choice("klmnrst") for _ in range(40)]
        documents = [" ".join(draw.choices(language, k=draw.randint(4, 40))) + ".\n" for _ in range(200)]
        (self.folder / "text.txt").write_text("<|end|>".join(documents))
        words = ("dataset.source=text.txt", "dataset.separator='<|end|>'", f"dataset.dir={folder}", *words)
        self.run("data/prepare.py", "dataset=text", *words)
        for path in sorted((self.folder / folder).iterdir()):
            self.anywhere[f"{folder}/{path.name}"] = digest(path.read_bytes())

    def compose(self, name: str, program: str, *words: str) -> None:
        """Keep the configuration that a command line makes."""
        self.settings[name] = flat(yaml.safe_load(self.run(program, *words, "--cfg", "job")))


# The values: each of these makes some of them, apart from the others.

SUMS = ("dataset.digits=2", "train.steps=20", "train.batch_size=16", "train.eval_every=10")
GPT, LLAMA = ("model=gpt_tiny", *SUMS), ("model=llama_tiny", *SUMS)
GROWING = (
    *GPT,
    "model.dropout=0.1",
    "dataset.padded=false",
    "schedule.steps=20",
    "schedule.grad_accum.style=linear",
    "schedule.grad_accum.end=4",
    "schedule.weight_decay.style=linear",
    "schedule.weight_decay.end=0",
    "train.micro_batch_size=4",
)
TEXT = ("dataset=text", "dataset.dir=prepared", "train.batch_size=8")
FAST_GPT = ("qk_norm=true", "zero_init=true", "logit_softcap=15", "bigram_embedding=97", "activation=relu2")
SIZES = ("", "_tiny", "_small", "_medium", "_large")
SCALED = "{factor:4,low_freq_factor:1,high_freq_factor:4,original_context:16}"


def gpt_adamw(make: Maker) -> None:
    make.train("gpt_adamw", *GPT, "optimizer=adamw")


def llama_muon(make: Maker) -> None:
    make.train("llama_muon", *LLAMA, "optimizer=muon")


def gpt_muon(make: Maker) -> None:
    """An exported model, and one that starts from it with frozen layers and a learning rate for each layer."""
    make.train("gpt_muon", *GPT, "optimizer=muon", "schedule=wsd")
    make.export("gpt_muon", "gpt_exported")
    options = ("optimizer=adamw", "optimizer.layer_decay=0.8", "train.freeze=[position_embedding,'blocks.0.*']")
    make.train("from_exported", *SUMS, "model=gpt_tiny", "init_from=gpt_exported", *options)


def llama_adamw(make: Maker) -> None:
    make.train("llama_adamw", *LLAMA, "optimizer=adamw", "schedule=power", "model.tied=true")
    make.export("llama_adamw", "llama_exported")
    options = ("schedule=constant", "train.activation_checkpointing=true")
    make.train("from_run", *LLAMA, "init_from=llama_adamw", "seed=1", "model.tied=true", *options)


def bfloat16(make: Maker) -> None:
    make.train("bfloat16", *LLAMA, "dtype=bfloat16")


def growing(make: Maker) -> None:
    """Dropout, accumulation that grows while weight decay fades, and parts of a micro-step."""
    make.train("growing", *GROWING)


def resumed(make: Maker) -> None:
    """The same in two parts: what it computes is what `growing` does."""
    make.run("train.py", *COMMON, "hydra.run.dir=resumed", *GROWING, "train.steps=10")
    make.run("train.py", "resume=resumed", "train.steps=20")
    make.keep("resumed")


def two_processes(make: Maker) -> None:
    make.train("two_processes", *LLAMA, "processes=2")


def growing_batch(make: Maker) -> None:
    make.train("growing_batch", "experiment=growing_batch", *SUMS, "model.n_embd=32")


def multiplier(make: Maker) -> None:
    options = ("dataset.digits=1", "dataset.split=ordered", "dataset.loss=all", "model.attention=plain", "seed=3")
    make.train("multiplier", *GPT, "dataset=multiplier", "model.bias=false", *options)


def prepared(make: Maker) -> None:
    make.prepare("characters", "dataset.tokenizer=characters")
    make.prepare("pairs", "dataset.tokenizer=bpe", "dataset.bpe_vocab_size=300")


def text(make: Maker) -> None:
    """A GPT with what makes it fast on text; its score, and texts beyond its context."""
    make.prepare("prepared", "dataset.tokenizer=characters")
    options = ("model=gpt_tiny", *(f"model.{option}" for option in FAST_GPT), "model.block_size=32", "schedule=linear")
    make.train("text", *TEXT, *options, "train.steps=60", "train.eval_every=20")
    make.score("text")
    make.keep_scores("text")
    prompts = ["a", "mar", "ten. "]
    make.sample("likeliest", "text", prompts, "temperature=0", "max_new_tokens=60")
    options = ("temperature=0.9", "top_k=9", "top_p=0.95", "repetition_penalty=1.1", "seed=3", "num_samples=2")
    make.sample("drawn", "text", prompts, *options, "max_new_tokens=40")


def documents(make: Maker) -> None:
    """A Llama with grouped heads and scaled angles, confined to a document, on byte pairs."""
    make.prepare("prepared", "dataset.tokenizer=bpe", "dataset.bpe_vocab_size=300")
    options = ("model=llama_tiny", "model.n_kv_head=1", f"model.rope_scaling={SCALED}", "model.qk_norm=true")
    options += ("model.block_size=32", "dataset.confine=true", "train.steps=20", "train.eval_every=10")
    make.train("documents", *TEXT, *options)


def adder(make: Maker) -> None:
    """A Llama that adds partly right: scores of both methods, with their slices, and answers."""
    options = ("model=llama_tiny", "dataset.digits=2", "dataset.split=ordered", "train.steps=150")
    make.train("adder", *options, "train.batch_size=256", "train.eval_every=50")
    make.score("adder/final", "method=forced")
    make.score("adder", "method=generate", "split=val", "limit=150")
    make.keep_scores("adder")
    make.sample("answers", "adder", ["12+34", "99+1", "7+8", "50+50"])


def sweep(make: Maker) -> None:
    """Runs of `-m`, and every text of their report."""
    options = ("hydra.sweep.dir=sweep", "hydra.launcher.jobs=2", *SUMS, "train.steps=10", "train.eval_every=5")
    make.run("train.py", *COMMON, "-m", *options, "model=gpt_tiny,llama_tiny", "seed=0,1")
    runs = sorted(path.parent for path in (make.folder / "sweep").glob("*/summary.json"))
    make.anywhere["jobs"] = joined(run.name for run in runs)
    for run in runs:
        make.here[f"{run.name} final weights"] = weights(run / "final" / "model.safetensors")
        without_times(run)
    make.run("eval/report.py", "runs=sweep")
    written = sorted((make.folder / "sweep" / "report").iterdir())
    make.anywhere["report"] = joined(path.name for path in written)
    for path in written:
        if path.suffix == ".png":
            continue
        found = path.read_text().replace(str(make.folder.resolve()), "<folder>")
        found = re.sub(r"Made \d{4}-\d\d-\d\d \d\d:\d\d", "Made", found)
        make.here[path.name] = digest(found.encode()) if path.suffix == ".html" else found.splitlines()
        if path.suffix == ".csv":
            make.anywhere[f"{path.name} columns"] = found.partition("\n")[0]


def composed(make: Maker) -> None:
    make.compose("defaults", "train.py")
    make.compose("prepare", "data/prepare.py")


def composed_presets(make: Maker) -> None:
    """Every preset and every option of a group."""
    texts = ("shakespeare_char_cpu", "shakespeare_char_fast", "shakespeare_char_gpu", "finetune_shakespeare")
    for name in ("adder", "multiplier", "leak", "growing_batch", "tinystories_llama", "gpt2_124m", *texts):
        make.compose(f"experiment {name}", "train.py", f"experiment={name}")
    groups = {
        "model": [*(f"gpt{size}" for size in SIZES), *(f"llama{size}" for size in SIZES), "llama_long"],
        "dataset": ["text", "shakespeare_char", "shakespeare", "tinystories", "openwebtext", "multiplier"],
        "schedule": ["constant", "linear", "power", "wsd"],
        "logger": ["default", "quiet", "csv", "tensorboard", "wandb"],
        "optimizer": ["adamw", "muon"],
    }
    for n in range(len(groups["model"])):  # several groups at once, each option of each at least once
        words = [f"{group}={options[n % len(options)]}" for group, options in groups.items()]
        make.compose(" ".join(words), "train.py", *words)
    for program in ("sample.py", "export.py", "eval/score.py", "eval/report.py"):
        make.compose(program, program)
    make.compose("template", "sample.py", "template=style")


FAST = (gpt_adamw, llama_muon, prepared, composed)  # what `make test` has time for
SLOW = (gpt_muon, llama_adamw, bfloat16, growing, resumed, two_processes, growing_batch)
SLOW += (multiplier, text, documents, adder, sweep, composed_presets)
MAKERS: dict[str, Callable[[Maker], None]] = {maker.__name__: maker for maker in (*SLOW, *FAST)}


def values_of(name: str, code: Path = ROOT, started: Started = started) -> Flat:
    """Make these values by programs of `code`, which `started` runs to their ends."""
    with tempfile.TemporaryDirectory() as folder:
        make = Maker(Path(folder), code, started)
        MAKERS[name](make)
        return json.loads(json.dumps(make.values()))


def all_values(names: list[str], code: Path = ROOT) -> Flat:
    """Make these values, some at once; in the place of those that can't be made stands why."""

    def made(name: str) -> Flat | str:
        try:
            return values_of(name, code)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(made, names), strict=True))


def checked_out(commit: str, folder: Path) -> Path:
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", metavar="COMMIT", help="compare with what this commit makes, and write nothing")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=MAKERS, default=list(MAKERS), help="of the values")
    asked = parser.parse_args()
    got = all_values(asked.only)
    if asked.against is None:
        return write(got)
    with tempfile.TemporaryDirectory() as folder:
        want = all_values(asked.only, checked_out(asked.against, Path(folder)))
    found = [f"{name}: {line}" for name in asked.only for line in differences(want[name], got[name])]
    print("\n".join(found) or f"{len(asked.only)} sets of values are what they are with {asked.against}")
    return 1 if found else 0


def write(got: Flat) -> int:
    path = HERE / f"{machine()}.json"
    kept = (read(path) if path.exists() else {}) | {name: made for name, made in got.items() if isinstance(made, dict)}
    kept = {name: kept[name] for name in MAKERS if name in kept}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    failed = [f"{name}: {made}" for name, made in got.items() if isinstance(made, str)]
    print("\n".join(failed) or f"{path}: {len(got)} of {len(MAKERS)} sets of values")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
