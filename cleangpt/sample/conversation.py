"""A conversation with a model at a terminal.

The model goes on with all that was said so far; what is said next stands on a new line after it. Questions that have
one right answer are asked one by one instead.
"""

import contextlib
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from cleangpt.basics import schema
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import expected, nearest
from cleangpt.config.programs import SampleConfig
from cleangpt.sample.prompts import Prompt
from cleangpt.sample.text_model import TextModel, follow, on_screen, slid_note
from cleangpt.terminal.narrow import entries

KNOBS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens", "stop", "seed",
)  # fmt: skip


def help_for(fields: Sequence[str], width: int) -> str:
    """Explain what can be typed."""
    knobs = ", ".join([*KNOBS, *fields])
    lines = [
        ("/temperature 0.7", f"sets a knob; `/temperature` shows it; `off` for none. There are {knobs}"),
        ("/settings", "all of them"),
        ("/reset", "forget what was said"),
        ("/help  /quit", ""),
        ("//...", "text that begins with a /"),
    ]
    first = textwrap.fill("What you type, the model goes on with. Ctrl-C stops it, Ctrl-D leaves.", width)
    return f"{first}\n{entries(lines, width)}"


class Conversation:
    """A person and a model, turn by turn."""

    def __init__(self, model: TextModel, settings: SampleConfig):
        self.model, self.settings = model, settings
        self.fields = tuple(settings.template.values)  # knobs too: /emotion sad
        self.said: list[int] = []  # all tokens of the conversation
        self.turn = 0  # texts since the seed was set

    def run(self) -> int:
        """Read lines and answer them until Ctrl-D or /quit."""
        with contextlib.suppress(ImportError):  # arrow keys and a history, where the terminal has them
            import readline

            readline.set_auto_history(True)
        print(on_screen(f"{self.model.name}\nType a text to go on with, or /help. Ctrl-D leaves."), flush=True)
        while True:
            try:
                line = input("> ")
                if line.strip() in ("/quit", "/exit"):
                    return 0
                if line.startswith("/") and not line.startswith("//"):
                    print(self.command(line), flush=True)
                elif line.strip():
                    self.answer(line.removeprefix("/"))
            except EOFError:
                print()
                return 0
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit leaves.)", flush=True)
            except UnicodeDecodeError:
                print("That was no UTF-8 text.", flush=True)
            except UserError as error:
                print(error, flush=True)

    def command(self, line: str) -> str:
        """Do what a line that begins with / says; the words to answer it with."""
        name, _, value = line[1:].strip().partition(" ")
        value, width = value.strip(), shutil.get_terminal_size().columns
        if name == "help":
            return help_for(self.fields, width)
        if name == "settings":
            return entries([(key, self._shown(key)) for key in (*KNOBS, *self.fields)], width)
        if name == "reset":
            self.said, self.turn = [], 0
            return "(Forgotten.)"
        if name not in (*KNOBS, *self.fields):
            guess = nearest(name, [*KNOBS, *self.fields, "help", "settings", "reset", "quit"])
            return f"There is no /{name}: " + (f"did you mean /{guess}?" if guess else "see /help")
        if value:
            self.set(name, value)
        return f"{name} {self._shown(name)}"

    def set(self, name: str, value: str) -> None:
        """Change a knob; the schema judges the value as it does on the command line."""
        data = self.settings.model_dump()
        if name in self.fields:
            data["template"][name] = value
        else:
            data[name] = value if name == "stop" and value not in ("off", "null") else _plain(value)
        self.settings = schema.parse(data, SampleConfig)
        if name == "seed":
            self.turn = 0

    def answer(self, line: str) -> None:
        """Go on with a text, or answer a question."""
        prompt = self.model.reader.read(line, self.settings.template, "that")
        if prompt.question is None:
            begin = self.model.reader.begin if self.said else []
            prompt = Prompt(prompt.text, self.said + self._between() + prompt.tokens[len(begin) :])
        pieces = self.model.speak(prompt, self.settings, self.turn)
        text, interrupted = follow(pieces, shows=prompt.question is None)
        self.turn += 1
        if prompt.question is None:
            self.said = prompt.tokens + text.tokens
            print(" (stopped)" if interrupted else "", flush=True)
        elif not interrupted:
            print(on_screen(prompt.question.verdict(text.tokens)), flush=True)
        if text.slid:
            print(slid_note(self.model.reader), flush=True)

    def _between(self) -> list[int]:
        """Put a newline between the model's text and the next line, where it is known and not there yet."""
        tokenizer = self.model.tokenizer
        if not self.said or self.said[-1] == tokenizer.end:
            return []
        with contextlib.suppress(UserError):
            newline = list(tokenizer.encode("\n"))
            return [] if self.said[-len(newline) :] == newline else newline
        return []

    def _shown(self, name: str) -> str:
        value = self.settings.template.values[name] if name in self.fields else getattr(self.settings, name)
        words = "off" if value is None else str(value)
        if name in self.fields:
            return words
        return f"{words}    ({expected(SampleConfig.model_fields[name]).replace('null', 'off')})"


def _plain(value: str) -> Any:
    """Read a value as YAML would."""
    if value in ("off", "none", "null"):
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value
