"""A trained model that goes on with prompts: it writes, and what it writes is shown or kept."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import visible
from cleangpt.basics.words import counted
from cleangpt.config.experiment import Config, Imported
from cleangpt.config.programs import SampleConfig
from cleangpt.disk import weights
from cleangpt.disk.rundir import Opened
from cleangpt.machine import session
from cleangpt.models.build import count_parameters
from cleangpt.sample import generate, packed
from cleangpt.sample.choose import Sampling
from cleangpt.sample.generate import Piece, Text
from cleangpt.sample.prompts import Prompt, Reader
from cleangpt.terminal import patience

AUTO_TEMPERATURE = 0.8
RULE = "-" * 20
INTERRUPTED = 130


def how(settings: SampleConfig, prompt: Prompt) -> Sampling:
    """Return how tokens are chosen after this prompt: a question has its likeliest answer."""
    temperature = settings.temperature
    if temperature == "auto":
        temperature = 0.0 if prompt.question else AUTO_TEMPERATURE
    return Sampling(temperature, settings.top_k, settings.top_p, settings.min_p, settings.repetition_penalty)


def stops(settings: SampleConfig) -> list[str]:
    """Return the texts to stop before, with the characters that a command line writes as \\n and \\t."""
    words = [settings.stop] if isinstance(settings.stop, str) else settings.stop or []
    return [word.replace("\\n", "\n").replace("\\t", "\t") for word in words]


class TextModel:
    """The model of a folder, ready to write."""

    def __init__(self, opened: Opened, trained: Config | Imported, reader: Reader, settings: SampleConfig):
        self.reader, self.tokenizer = reader, reader.tokenizer
        self.compute = session.alone(settings.device, settings.dtype, count_parameters(trained.model))
        model = weights.load_model(opened.folder, trained, self.compute.device)
        self.model = model.to(self.compute.dtype)
        if settings.compile:
            generate.compile_for_decoding(self.model)
        else:
            packed.pack(self.model)
        step = weights.about(opened.folder).get("step", "unknown")
        self.state = f"step {step}, {self.compute.name}"
        self.name = f"{opened.folder}, {self.state}"

    def _tokens_for(self, prompt: Prompt, settings: SampleConfig) -> int:
        longest = prompt.question.new_tokens if prompt.question else settings.max_new_tokens
        return min(longest, settings.max_new_tokens)

    def speak(
        self, prompt: Prompt, settings: SampleConfig, number: int = 0, watch: Callable[..., None] = lambda *_: None
    ) -> Iterator[Piece]:
        """Write one text, token by token. `number` tells it from others of the same seed."""
        return generate.stream(
            self.model,
            self.tokenizer,
            [prompt.tokens],
            new_tokens=self._tokens_for(prompt, settings),
            how=how(settings, prompt),
            keys=[generate.key_of(settings.seed, number, 0)],
            stop=stops(settings),
            positions=positions_of([prompt]),
            watch=watch,
        )

    def write(self, prompts: list[Prompt], settings: SampleConfig) -> Iterator[list[Text]]:
        """Write all texts, in batches. The prompts are all questions or all none."""
        return generate.write(
            self.model,
            self.tokenizer,
            [prompt.tokens for prompt in prompts],
            new_tokens=self._tokens_for(prompts[0], settings),
            how=how(settings, prompts[0]),
            seed=settings.seed,
            samples=settings.num_samples,
            stop=stops(settings),
            batch_size=settings.batch_size,
            positions=positions_of(prompts),
        )


def positions_of(prompts: list[Prompt]) -> list[list[int]] | None:
    """List the positions of questions and answers, where the task says them."""
    found = [prompt.question.positions for prompt in prompts if prompt.question and prompt.question.positions]
    return found or None


def note(words: str) -> None:
    """Tell the person something, apart from the texts."""
    print(visible(words), file=sys.stderr, flush=True)


def on_screen(text: str) -> str:
    """Show what a terminal would obey instead of sending it there. A pipe gets the text itself."""
    return visible(text) if sys.stdout.isatty() else text


def slid_note(reader: Reader) -> str:
    """Say that a text outgrew the context."""
    whole = counted(reader.context or 0, "token")
    return f"(A text outgrew the context of {whole}: there the model forgot all but the newest half of it.)"


def refuse_unwritable(output: str | None) -> None:
    """Refuse to write where there is no folder."""
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise UserError(f"output={output}: there is no folder {Path(output).parent}")


def answer(model: TextModel, prompts: list[Prompt], settings: SampleConfig) -> int:
    """Show or keep what the model writes after each prompt. An interruption keeps what is there."""
    wanted = len(prompts) * settings.num_samples
    if settings.output is None and wanted == 1:
        return show_one(model, prompts[0], settings)
    texts: list[Text] = []
    status = 0
    try:
        with patience.doing("Writing", wanted, "texts") as progress:
            for batch in model.write(prompts, settings):
                texts += batch
                progress.advance(len(batch))
    except KeyboardInterrupt:
        note(f"Interrupted after {len(texts):,} of {counted(wanted, 'text')}.")
        status = INTERRUPTED
    texts.sort(key=lambda text: (text.prompt, text.sample))
    if settings.output is None:
        for text in texts:
            if settings.num_samples > 1:
                print(f"{RULE} {text.prompt + 1}.{text.sample + 1}")
            print(on_screen(shown(prompts[text.prompt], text)), flush=True)
    else:
        keep(Path(settings.output), prompts, texts)
        note(f"Written to {settings.output}: {counted(len(texts), 'text')}.")
    if verdicts := [asked.is_right(text.tokens) for text in texts if (asked := prompts[text.prompt].question)]:
        note(f"{sum(verdicts):,} of {len(verdicts):,} right")
    if any(text.slid for text in texts):
        note(slid_note(model.reader))
    return status


def show_one(model: TextModel, prompt: Prompt, settings: SampleConfig) -> int:
    """Show one text as it comes, after its prompt."""
    if prompt.question is None:
        print(on_screen(prompt.text), end="", flush=True)
    text, interrupted = follow(model.speak(prompt, settings), shows=prompt.question is None)
    if interrupted:
        print(flush=True)
        return INTERRUPTED
    print(on_screen(prompt.question.verdict(text.tokens)) if prompt.question else "", flush=True)
    if text.slid:
        note(slid_note(model.reader))
    return 0


def follow(pieces: Iterator[Piece], shows: bool) -> tuple[Text, bool]:
    """Put the pieces of one text together, and show them as they come; also whether Ctrl-C ended it."""
    text = Text(0, 0)
    try:
        for piece in pieces:
            text.add(piece)
            if shows:
                print(on_screen(piece.text), end="", flush=True)
    except KeyboardInterrupt:
        return text, True
    return text, False


def shown(prompt: Prompt, text: Text) -> str:
    """Write a prompt and its text, or a question and the verdict on its answer."""
    return prompt.question.verdict(text.tokens) if prompt.question else prompt.text + text.text


def keep(path: Path, prompts: list[Prompt], texts: list[Text]) -> None:
    """Write texts as JSON Lines, or as text with rules between them."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(row(prompts[text.prompt], text), ensure_ascii=False) + "\n" for text in texts]
    else:
        lines = [f"{shown(prompts[text.prompt], text)}\n{RULE}\n" for text in texts]
    data = "".join(lines).encode("utf-8", errors="replace")
    files.replace(path.absolute(), lambda file: file.write(data))


def row(prompt: Prompt, text: Text) -> dict[str, Any]:
    """Write a text and all that is known about it as plain data."""
    found = {"prompt": prompt.text, "sample": text.sample, "text": text.text}
    if question := prompt.question:
        found["text"] = question.read(text.tokens)
        found |= {"right": question.read(question.right), "correct": question.is_right(text.tokens)}
    return {**found, "tokens": len(text.tokens), "ended": text.ended, "slid": text.slid}
