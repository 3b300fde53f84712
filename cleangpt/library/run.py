"""A run, as Python sees it: what is known of it, and the model that it trained, loaded when first asked for."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import leaves, parse
from cleangpt.config.command_line import literally, split
from cleangpt.config.experiment import Config, Imported
from cleangpt.config.programs import ScoreConfig
from cleangpt.disk import alive
from cleangpt.disk.rundir import Opened, RunDir, find, read_config, read_metrics, weights_in
from cleangpt.library import shown, starting
from cleangpt.library.answers import Answer, NextTokens, Speaker, Text
from cleangpt.library.composing import checked, defaults, laid_over
from cleangpt.library.shown import Picture
from cleangpt.library.starting import Callback
from cleangpt.library.words import Asked, place, plain, words
from cleangpt.sweeps.jobs import DONE, MAY_CHANGE

if TYPE_CHECKING:
    import pandas

    from cleangpt.models.contract import LanguageModel
    from cleangpt.tokens.tokenizers import Tokenizer

HEADLINES = ("step", "val/loss", "val/accuracy", "test/accuracy", "best/val/loss", "tokens", "seconds")


class Score(dict[str, Any]):
    """What a scoring found, as its JSON has it; `files` are that and its pictures."""

    def __init__(self, found: dict[str, Any], tables: list[str], files: list[Path]):
        super().__init__(found)
        self.files = files
        self._tables = tables

    def _repr_html_(self) -> str:
        pictures = [path.read_bytes() for path in self.files if path.suffix == ".png" and path.exists()]
        return "".join(self._tables) + "".join(map(shown.picture, pictures))


class Run:
    """A run, or weights that lie somewhere: make one by `Run.load`, or by training."""

    def __init__(self, folder: RunDir, opened: Opened | None):
        self._dir, self._opened = folder, opened

    @classmethod
    def load(cls, path: str | os.PathLike[str] = "latest") -> "Run":
        """Open a run, one of its snapshots, its best/ or final/, an imported folder, or `latest`."""
        folder = RunDir(Path(path).resolve()) if os.fspath(path) != "latest" else None
        if folder and folder.config.exists() and not weights_in(folder.path):
            return cls(folder, None)  # it may have no weights yet
        opened = find(os.fspath(path))
        return cls(opened.run or RunDir(opened.folder), opened)

    def __repr__(self) -> str:
        return f"Run({self._dir.shown()!r}, {self.status})"

    # ---- what is known of it

    @property
    def path(self) -> Path:
        return self._dir.path

    @property
    def status(self) -> str:
        """Say how it stands: running, completed, early_stopped, stopped, failed, cut_off; or imported, missing."""
        if not self.path.exists():
            return "missing"
        if not self._dir.metrics.exists() and not self._dir.summary.exists():
            return "imported"
        return alive.status(self._dir, self.summary.get("status"))

    @property
    def summary(self) -> dict[str, Any]:
        """Read summary.json, {} before it is there."""
        return untrusted.json_object(self._dir.summary) if self._dir.summary.exists() else {}

    @property
    def config(self) -> Config | Imported:
        """Read the configuration, checked."""
        return read_config(self._dir.config if self._dir.config.exists() else self._weights.folder / "config.json")

    @property
    def steps(self) -> int:
        """Count the steps that it is to have."""
        return self.config.train.steps if isinstance(self.config, Config) else 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Read the rows of metrics.jsonl."""
        return read_metrics(self._dir.metrics)

    @property
    def metrics(self) -> "pandas.DataFrame":
        """Read metrics.jsonl as a table with a row for each step that was logged."""
        frame = shown.pandas().DataFrame(self.rows)
        return frame.set_index("step") if len(frame) else frame

    def resume(self, *asked: Asked, callback: Callback | None = None, progress: bool = True) -> "Run":
        """Go on, exactly as if it had not ended, or with what is asked anew (`{"train.steps": 400}`)."""
        line = words(asked)
        steps = checked(line).config.train.steps
        steps = steps if any(split(word)[0] == "train.steps" for word in line) else self.steps
        named = self._opened.folder if self._opened and self._opened.label.startswith("step_") else self.path
        starting.train([*line, f"resume={literally(str(named))}"], self.path, steps, callback, progress)
        for loaded in ("model", "tokenizer", "_speaker"):  # this run has other weights now
            vars(self).pop(loaded, None)
        return Run.load(self.path)

    # ---- its model

    @property
    def _weights(self) -> Opened:
        if self._opened is None:
            self._opened = find(str(self.path))
        return self._opened

    @cached_property
    def model(self) -> "LanguageModel":
        """Load the model, in float32 and ready to be evaluated, on the fastest device."""
        import torch

        from cleangpt.disk import weights
        from cleangpt.machine import device
        from cleangpt.snapshots import snapshot

        snapshot.refuse_damage(self._weights.folder)
        trained = read_config(self._weights.folder / "config.json")
        return weights.load_model(self._weights.folder, trained, torch.device(device.fastest("auto")))

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        from cleangpt.tokens import tokenizers

        return tokenizers.load(self._weights.folder / "tokenizer.json")

    @cached_property
    def _speaker(self) -> Speaker:
        return Speaker(self._weights, read_config(self._weights.folder / "config.json"))

    @overload
    def generate(self, prompt: str = "", **how: Any) -> Text: ...
    @overload
    def generate(self, prompt: list[str], **how: Any) -> list[Text]: ...
    def generate(self, prompt: str | list[str] = "", **how: Any) -> Text | list[Text]:
        """Write on after a prompt, or after each of several. `how` are keys of `cleangpt sample`, as temperature=0.8.

        The same seed writes the same text as the command does.
        """
        if not isinstance(prompt, str) and not prompt:
            return []
        found = self._speaker.generate([prompt] if isinstance(prompt, str) else list(prompt), how)
        return found[0] if isinstance(prompt, str) else found

    def stream(self, prompt: str = "", **how: Any) -> Iterator[str]:
        """Write on after a prompt, piece by piece."""
        return self._speaker.stream(prompt, how)

    def ask(self, problem: str) -> Answer:
        """Ask a problem with one right answer, as `123+456`."""
        return self._speaker.ask(problem)

    def next_tokens(self, text: str = "", k: int = 10) -> NextTokens:
        """Find the likeliest next tokens after a text.

        Where the model answers problems, `12+3` is one, and `12+3=1` one with the beginning of an answer, as the model
        writes it.
        """
        return self._speaker.next_tokens(text, k)

    # ---- what comes of it

    def score(self, split: str | None = None, **asked: Any) -> Score:
        """Score it, write what comes of it to score/, and return it. `asked` are keys of `cleangpt score`."""
        from cleangpt.machine.signals import Stopped
        from cleangpt.score import run as scoring

        given = {key: plain(value) for key, value in asked.items()}
        data = laid_over(defaults("score"), {"run": str(self._weights.folder), "split": split, **given})
        try:
            result = scoring.scored(parse(data, ScoreConfig), lambda _: None)
        except Stopped:
            raise KeyboardInterrupt from None
        assert result is not None, "there are no other processes"
        return Score(result.found, [shown.of_console(table) for table in result.tables], result.paths)

    def export(self, out: str | os.PathLike[str], dtype: Literal["float32", "bfloat16", "float16"] = "float32") -> Path:
        """Write a folder that Hugging Face's transformers open."""
        from cleangpt.hf import folder

        if dtype not in ("float32", "bfloat16", "float16"):
            raise UserError(f"`dtype` must be one of float32, bfloat16, float16, not {dtype}")
        folder.export_folder(self._weights.folder, Path(out), dtype)
        return Path(out)

    def plot(self, *names: str, x: str = "step") -> Picture:
        """Draw columns of the metrics, by default the losses, along `step`, `tokens` or `seconds`."""
        from cleangpt.library import drawing

        rows = self.rows
        there = [name for name in ("train/loss", "val/loss") if any(name in row for row in rows)]
        return drawing.of_run(rows, names or there or ["train/loss"], x)

    def _repr_html_(self) -> str:
        told = [("run", self._dir.shown()), ("status", self.status)]
        if self.status == "missing":
            return shown.table(["", ""], told)
        summary, config = self.summary, self.config
        told.append(("model", config.model.name))
        if isinstance(config, Config):
            told.append(("dataset", config.dataset.name))
        told += [(name, f"{summary[name]:,.6g}") for name in HEADLINES if isinstance(summary.get(name), int | float)]
        drawn = self.plot()._repr_png_() if any("val/loss" in row or "train/loss" in row for row in self.rows) else b""
        return shown.table(["", ""], told) + (shown.picture(drawn) if drawn else "")


def train(
    *asked: Asked, path: str | os.PathLike[str] | None = None, callback: Callback | None = None, progress: bool = True
) -> Run:
    """Train a model in a process of its own, and return its run.

    `asked` are words as on the command line (`"experiment=adder"`) and values by key (`{"train.steps": 200}`).
    `path` is where the run lies: the same call with the same `path` goes on with what was interrupted, and returns what
    is done. `callback` gets each row of metrics.jsonl as it is written. An interruption saves a snapshot; the run's
    status is then `stopped`.
    """
    line = words(asked)
    if path is not None:
        line.append(f"hydra.run.dir={place(path)}")
    found = checked(line)
    if found.config.resume not in (None, "auto"):
        raise UserError(f"`resume` is {found.config.resume}: use cleangpt.Run.load(…).resume()")
    folder = Path(found.folder).absolute()
    if path is None:
        line.append(f"hydra.run.dir={place(folder)}")
    elif found.config.resume is None and RunDir(folder).config.exists():
        there = Run.load(folder)
        _refuse_another(there, found.config)
        if there.status in DONE:
            return there
        line.append("resume=auto")
    starting.train(line, folder, found.config.train.steps, callback, progress)
    return Run.load(folder)


def _refuse_another(there: Run, asked: Config) -> None:
    """Refuse to go on with a run as if it were another one."""
    stored, here = (leaves(config.model_dump(mode="json")) for config in (there.config, asked))
    record = there._dir.run
    given = untrusted.json_object(record).get("changed", {}) if record.exists() else {}  # not filled in, but asked for
    for key, value in here.items():
        is_open = (value is None or (key, value) == ("dtype", "auto")) and key not in given
        is_open = is_open or key.split(".")[0] in MAY_CHANGE
        if not is_open and stored.get(key) != value:
            raise UserError(
                f"{there.path} holds a run of another configuration ({key}: {stored.get(key)} there, {value} here): "
                "choose another path, or go on with it by cleangpt.Run.load(…).resume(…)"
            )
