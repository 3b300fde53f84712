"""What a model says: texts, answers to problems, and the next tokens, with how likely it finds them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import parse
from cleangpt.basics.words import listed
from cleangpt.config.programs import SampleConfig
from cleangpt.library import shown
from cleangpt.library.composing import defaults, laid_over
from cleangpt.library.words import plain
from cleangpt.sample.prompts import Prompt, Reader

if TYPE_CHECKING:
    from cleangpt.disk.rundir import Opened

NOT_HERE = (
    "run",
    "prompt",
    "prompts",
    "interactive",
    "output",
    "num_samples",
    "template",
    "device",
    "dtype",
    "compile",
)


@dataclass(frozen=True)
class Text:
    """Text that a model wrote after a prompt."""

    prompt: str
    text: str
    tokens: list[int] = field(repr=False)
    ended: str | None  # by what: "end" of the document, "stop" string, or "length"

    def __str__(self) -> str:
        return self.prompt + self.text

    def _repr_html_(self) -> str:
        return f"<pre><b>{escape(self.prompt)}</b>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class Answer:
    """What a model answers to a problem."""

    problem: str
    text: str
    right: str  # the right answer
    correct: bool
    tokens: list[str]  # of its answer, as it wrote them
    probabilities: list[float]  # that the model gave to each of these tokens

    def __str__(self) -> str:
        return f"{self.problem} = {self.text} {'✓' if self.correct else f'✗ it is {self.right}'}"

    def _repr_html_(self) -> str:
        rows = [[token, f"{share:.2%}"] for token, share in zip(self.tokens, self.probabilities, strict=True)]
        return f"<p>{escape(str(self))}</p>" + shown.table(["token", "probability"], rows)


@dataclass(frozen=True)
class NextToken:
    """A token that may come next."""

    text: str
    probability: float
    token: int


class NextTokens(list[NextToken]):
    """The likeliest next tokens, the first one first."""

    def _repr_html_(self) -> str:
        rows = [[repr(one.text), f"{one.probability:.2%}", str(one.token)] for one in self]
        return shown.table(["token", "probability", "number"], rows)


def _of(prompt: Prompt, text: str, tokens: list[int], ended: str | None) -> Text:
    """Make the text after a prompt; the answer to a problem as a person writes it."""
    if prompt.question is None:
        return Text(prompt.text, text, tokens, ended)
    return Text(f"{prompt.text} = ", prompt.question.read(tokens), tokens, ended)


class Speaker:
    """The model of a folder, as sample.py has it."""

    def __init__(self, opened: "Opened", trained: Any):
        from cleangpt.sample.text_model import TextModel
        from cleangpt.snapshots import snapshot

        snapshot.refuse_damage(opened.folder)
        self.reader = Reader(opened.folder, trained)
        self.defaults = defaults("sample") | {"run": str(opened.folder)}
        self.model: TextModel = TextModel(opened, trained, self.reader, self.settings({}))

    def settings(self, given: dict[str, Any]) -> SampleConfig:
        known = [key for key in SampleConfig.model_fields if key not in NOT_HERE]
        if wrong := sorted(set(given) - set(known)):
            raise UserError(f"`{wrong[0]}` is not among what can be set here: {listed(known)}")
        given = {key: list(value) if isinstance(value, tuple) else plain(value) for key, value in given.items()}
        return parse(laid_over(self.defaults, given), SampleConfig)

    def generate(self, prompts: list[str], given: dict[str, Any]) -> list[Text]:
        settings = self.settings(given)
        asked = [self._read(text) for text in prompts]
        found = [text for batch in self.model.write(asked, settings) for text in batch]
        found.sort(key=lambda text: text.prompt)
        return [_of(prompt, text.text, text.tokens, text.ended) for prompt, text in zip(asked, found, strict=True)]

    def stream(self, prompt: str, given: dict[str, Any]) -> Iterator[str]:
        settings, asked = self.settings(given), self._read(prompt)
        pieces = self.model.speak(asked, settings)
        if asked.question:  # which is read as a whole: its first token may be its last digit
            yield asked.question.read([piece.token for piece in pieces])
            return
        for piece in pieces:
            yield piece.text

    def _read(self, text: str) -> Prompt:
        return self.reader.read(text, self.settings({}).template) if text else self.reader.natural()[0]

    def ask(self, text: str) -> Answer:
        from cleangpt.sample.generate import greedy

        if self.reader.task is None:
            raise UserError("this model has no problems with one right answer: use generate, or next_tokens")
        question = self.reader.task.ask(text)
        places = None if question.positions is None else [question.positions]
        answer = greedy(self.model.model, [question.tokens], question.new_tokens, places)[0].tolist()  # type: ignore[arg-type]
        end = self.reader.tokenizer.end
        written = answer[: answer.index(end) + 1] if end in answer else answer
        shares = self._shares(question.tokens + written, question.positions)[len(question.tokens) - 1 : -1]
        probabilities = [float(row[token]) for row, token in zip(shares, written, strict=True)]
        tokens = [self._name(token) for token in written]
        right = question.is_right(answer)
        return Answer(
            question.text, question.read(written), question.read(question.right), right, tokens, probabilities
        )

    def next_tokens(self, text: str, count: int) -> NextTokens:
        """Of a task with answers, `text` is a problem, and what stands behind a `=` the beginning of its answer."""
        positions = None
        if count < 1:
            raise UserError(f"`k` must be a whole number of at least 1, not {count}")
        if self.reader.task is not None and text:
            problem, _, written = text.partition("=")
            question, begun = self.reader.task.ask(problem), list(self.reader.tokenizer.encode(written))
            if len(begun) >= question.new_tokens:
                raise UserError(f"{written} is as long as an answer to {question.text} can be: leave out its end")
            tokens, positions = question.tokens + begun, question.positions
        else:
            tokens = self._read(text).tokens
        shares = self._shares(tokens, positions)[-1][: self.reader.tokenizer.vocab_size]
        likeliest = shares.topk(min(count, len(shares)))
        pairs = zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
        return NextTokens(NextToken(self._name(token), share, token) for share, token in pairs)

    def _shares(self, tokens: list[int], positions: list[int] | None) -> Any:
        """Compute how likely the model finds each token after each of these, (n, V)."""
        import torch

        device = next(self.model.model.parameters()).device
        told = {}
        if positions is not None:
            told["positions"] = torch.tensor([positions[: len(tokens)]], device=device)
        with torch.inference_mode():
            logits = self.model.model(torch.tensor([tokens], device=device), **told)[0]
            return logits.float().softmax(dim=-1).cpu()

    def _name(self, token: int) -> str:
        return "<end>" if token == self.reader.tokenizer.end else self.reader.tokenizer.decode([token])
