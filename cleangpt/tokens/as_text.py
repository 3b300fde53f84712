"""Tokens as text while they come: only whole characters are shown, and no part of a stop string ever is."""

import codecs
from collections.abc import Sequence

from cleangpt.tokens.tokenizers import Bytes, Tiktoken, Tokenizer

HALF = "\ufffd"  # what decoders show for a part of a character


class BytesText:
    """Text of tokens that are bytes: those that are not a whole character yet wait."""

    def __init__(self, tokenizer: Bytes | Tiktoken):
        self.bytes_of = tokenizer.bytes_of
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.decoder.decode(self.bytes_of(token))

    def finish(self) -> str:
        return self.decoder.decode(b"", final=True)


class DecodedText:
    """Text of any tokens: that of a token is what it adds to the text of those just before it."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.before, self.shown = 0, 0  # tokens that only give context; tokens whose text is out

    def push(self, token: int) -> str:
        self.tokens.append(token)
        text = self.tokenizer.decode(self.tokens[self.before :])
        return "" if text.endswith(HALF) else self._take(text)

    def finish(self) -> str:
        return self._take(self.tokenizer.decode(self.tokens[self.before :]))

    def _take(self, text: str) -> str:
        known = self.tokenizer.decode(self.tokens[self.before : self.shown])
        self.before, self.shown = self.shown, len(self.tokens)
        return text[len(known) :]


class Detokenizer:
    """The text of tokens that come one by one, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self.text = BytesText(tokenizer) if isinstance(tokenizer, Bytes | Tiktoken) else DecodedText(tokenizer)
        self.stop = [word for word in stop if word]
        self.held = ""  # what may be the beginning of a stop string
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token, and return the text that it makes certain."""
        return self._before_stop(self.text.push(token))

    def finish(self) -> str:
        """Return what was held back, since no more tokens come."""
        if self.stopped:
            return ""
        text = self._before_stop(self.text.finish())
        held, self.held = self.held, ""
        return text if self.stopped else text + held

    def _before_stop(self, text: str) -> str:
        if not self.stop or not text:
            return text
        text = self.held + text
        found = [place for word in self.stop if (place := text.find(word)) >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)]
        most = min(max(map(len, self.stop)) - 1, len(text))
        waits = next((n for n in range(most, 0, -1) if any(word.startswith(text[-n:]) for word in self.stop)), 0)
        self.held = text[len(text) - waits :]
        return text[: len(text) - waits]
