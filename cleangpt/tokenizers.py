"""Text ↔ tokens. A tokenizer is stored as JSON beside the weights, never as a pickle."""

import json
from pathlib import Path

from cleangpt.errors import UserError


class Characters:
    """One token for each of a list of characters; `end` and `pad` may be among them."""

    kind = "characters"

    def __init__(self, tokens: list[str], end: str | None = None, pad: str | None = None):
        self.tokens, self.end_token, self.pad_token = tokens, end, pad
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.end = None if end is None else self.ids[end]
        self.pad = None if pad is None else self.ids[pad]

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        unknown = sorted(set(text) - set(self.ids))
        if unknown:
            shown = ", ".join(repr(character) for character in unknown[:5])
            raise UserError(f"the model's vocabulary has no {shown}: it knows {''.join(self.tokens).strip()!r}")
        return [self.ids[character] for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.tokens[i] for i in ids)

    def to_json(self) -> dict:
        return {"kind": self.kind, "tokens": self.tokens, "end": self.end_token, "pad": self.pad_token}


KINDS = {Characters.kind: Characters}


def load(path: Path) -> Characters:
    data = json.loads(path.read_text(encoding="utf-8"))
    kind = data.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"{path} holds a tokenizer of kind {kind!r}: this version reads {', '.join(KINDS)}")
    return KINDS[kind](**data)
