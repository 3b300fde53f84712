"""Prompts: where they come from, and how a model reads them. Torch is not needed for any of it."""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.config.experiment import Config, Imported
from cleangpt.config.programs import SampleConfig, TemplateConfig
from cleangpt.tasks.contract import Question
from cleangpt.tokens import exchange, tokenizers

EXAMPLES = 5  # held-out problems that are shown where nothing was asked


@dataclass(frozen=True)
class Prompt:
    """A text to go on with."""

    text: str  # with the template around it
    tokens: list[int]
    question: Question | None = None  # where one answer is right


def around(template: TemplateConfig, text: str) -> str:
    """Put a template around a text."""
    values = {**template.values, "text": text}
    return re.sub(r"\{(\w+)\}", lambda name: str(values[name[1]]), template.pattern)


class Reader:
    """A reader of text as the model of a folder reads it."""

    def __init__(self, folder: Path, trained: Config | Imported):
        self.tokenizer = tokenizers.load(folder / "tokenizer.json")
        self.context = trained.model.context
        if self.tokenizer.vocab_size > trained.model.vocab_size:
            raise UserError(
                f"{folder / 'tokenizer.json'} has {counted(self.tokenizer.vocab_size, 'token')} and the model only "
                f"{trained.model.vocab_size}: they do not belong together"
            )
        begin = exchange.begin(self.tokenizer)
        self.begin = [] if begin is None else [begin]  # stands before every text
        self.task = None
        if trained.dataset and tasks.of(trained.dataset.name).has_answers:
            task = tasks.make(trained.dataset)
            if task.tokenizer.to_json() == self.tokenizer.to_json():
                self.task = task

    def read(self, text: str, template: TemplateConfig, where: str = "the prompt") -> Prompt:
        """Read a prompt that fits the model; a mistake says `where` it stands."""
        text = around(template, text)
        try:
            if self.task is not None:
                question = self.task.ask(text)
                return Prompt(question.text, question.tokens, question)
            ids = list(self.tokenizer.encode(text))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if not ids:
            return self.natural()[0]
        ids = ids if ids[: len(self.begin)] == self.begin else self.begin + ids
        if self.context and len(ids) > self.context:
            raise UserError(
                f"{where} has {len(ids)} tokens, and the model reads {self.context} at most: shorten it, or leave "
                "out the beginning"
            )
        return Prompt(text, ids)

    def natural(self) -> list[Prompt]:
        """Make prompts where nothing was asked: a new document, a new line, or problems that the model never saw."""
        if self.task is not None:
            return [Prompt(question.text, question.tokens, question) for question in self.task.examples(EXAMPLES)]
        end = self.tokenizer.end
        if first := self.begin or ([] if end is None else [end]):
            return [Prompt("", first)]
        try:
            return [Prompt("", list(self.tokenizer.encode("\n")))]
        except UserError:
            return [Prompt("", [0])]  # any character is as good as another


def given(settings: SampleConfig, reader: Reader) -> list[Prompt]:
    """Read the prompts that a command line asks for."""
    if (path := settings.prompts) is not None:
        found = _of_lines(_read(path, "prompts"), path, settings.template, reader)
        if not found:
            raise UserError(f"prompts={path} has no line with anything in it")
        return found
    text, where = settings.prompt, None
    if text == "-" or (text is None and _stdin_is_piped()):
        where = "standard input"
        text = _decode(sys.stdin.buffer.read(), where)
    elif text is not None and text.startswith("@"):
        where = text[1:]
        text = _read(where, "prompt")
    if where is not None and text is not None:  # editors and echo end a text with a newline that nobody means
        text = text.removesuffix("\n").removesuffix("\r")
        if reader.task is not None:  # a text may have lines, a problem is one
            return _of_lines(text, where, settings.template, reader) or reader.natural()
    if not around(settings.template, text or ""):
        return reader.natural()
    return [reader.read(text or "", settings.template)]


def _of_lines(text: str, where: str, template: TemplateConfig, reader: Reader) -> list[Prompt]:
    """Read a prompt from each line that is not blank."""
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1)]
    return [reader.read(line, template, f"{where}, line {number}") for number, line in lines if line.strip()]


def _read(path: str, key: str) -> str:
    try:
        return _decode(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"{key}: {path} can't be read ({error.strerror})") from None


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text: see byte {error.start}") from None


def _stdin_is_piped() -> bool:
    """Tell whether something is sent here: a pipe or a file, not a terminal or nothing at all."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
