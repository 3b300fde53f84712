"""The model in its process: how it reads, and what its tokens are called."""

from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import parse
from cleangpt.config.programs import SampleConfig
from cleangpt.disk.rundir import find, read_config
from cleangpt.sample.prompts import Prompt, Reader
from cleangpt.sample.text_model import TextModel
from cleangpt.snapshots import snapshot


class Model:
    """A model that goes on with prompts, as `sample.py` does."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        opened = find(str(folder))
        trained = read_config(opened.folder / "config.json")
        snapshot.refuse_damage(opened.folder)
        self.settings = parse(settings, SampleConfig)
        self.reader = Reader(opened.folder, trained)
        self.text_model = TextModel(opened, trained, self.reader, self.settings)
        self.tokenizer, self.decoder = self.reader.tokenizer, self.text_model.model
        self.context = trained.model.context

    def about(self) -> dict[str, Any]:
        return {
            "name": self.text_model.name,
            "state": self.text_model.state,
            "context": self.context,
            "vocab_size": self.tokenizer.vocab_size,
            "answers": self.reader.task is not None,
        }

    def read(self, prompt: str | list[int]) -> Prompt:
        if isinstance(prompt, str):
            return self.reader.read(prompt, self.settings.template) if prompt else self.reader.natural()[0]
        if not prompt:
            return self.reader.natural()[0]
        if not all(0 <= token < self.tokenizer.vocab_size for token in prompt):
            raise UserError(f"prompt: tokens are numbers from 0 to {self.tokenizer.vocab_size - 1}")
        if self.context and len(prompt) > self.context:
            raise UserError(f"the prompt has {len(prompt)} tokens, and the model reads {self.context} at most")
        return Prompt(self.tokenizer.decode(prompt), prompt)

    def name_of(self, token: int) -> str:
        return "<end>" if token == self.tokenizer.end else self.tokenizer.decode([token])
