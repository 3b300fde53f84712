"""Problems and answers between tokens and what a person types and reads."""

import re

import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.format import DIGITS, Format
from cleangpt.tasks.lab.keys import Keys


class Reader:
    """Reads and writes the problems of a task for a person: numbers with the highest digit first."""

    def __init__(self, keys: Keys, how: Format, widths: list[int]):
        """Make a reader of operands of at most so many figures."""
        self.keys, self.how, self.operation, self.widths = keys, how, how.operation, widths

    def question(self, *operands: int | str) -> str:
        """Write a problem."""
        return self.operation.symbol.join(map(str, operands))

    def number(self, tokens: list[int]) -> str:
        """Write the digits of a number or a string, the highest first."""
        text = "".join(self.how.tokens[token] for token in tokens)
        return text if self.operation.strings else text.lstrip("0") or "0"

    def read_question(self, tokens: list[int]) -> str:
        """Write the problem that tokens ask."""
        base, s = self.keys.base, self.how.style
        parts: list[list[int]] = [[]]
        if s.one_length:
            places = self.how.write([np.zeros((1, 1), np.int64)] * self.keys.operands).numbers
            parts = [[tokens[place] for place in np.flatnonzero(places == n)] for n in range(self.keys.operands)]
            return self.question(*(self.number(part[::-1] if s.reversed_operands else part) for part in parts))
        if self.keys.symbols and s.equals and (sign := self.how.ids[s.equals]) in tokens:
            tokens = tokens[: tokens.index(sign)]  # a scratchpad may stand behind it
        if self.keys.symbols or self.keys.operands == 1:
            for token in tokens:
                if token < base:
                    parts[-1].append(token)
                elif self.how.tokens[token] == s.operator:
                    parts.append([])
        else:
            digits = [token for token in tokens if token < base]
            width = len(digits) // self.keys.operands
            parts = [digits[start : start + width] for start in range(0, len(digits), width)]
        return self.question(*(self.number(part[::-1] if s.reversed_operands else part) for part in parts))

    def written(self, tokens: list[int]) -> list[int]:
        """Leave the end of an answer, and what comes behind it, away."""
        end, pad = (self.how.ids.get(symbol or "") for symbol in (self.how.end, self.how.pad))
        if end in tokens:
            tokens = tokens[: tokens.index(end)]
        while tokens and tokens[-1] == pad:
            tokens = tokens[:-1]
        return tokens

    def conclusion(self, tokens: list[int]) -> list[int]:
        """Take the answer itself out of the tokens of an answer."""
        return self.how.plain(self.written(tokens))

    def read_answer(self, tokens: list[int]) -> str:
        """Write the answer that tokens give. What is no number is shown as it is."""
        whole, tokens = self.written(tokens), self.conclusion(tokens)
        digits, sign = tokens[::-1] if self.how.style.reversed_answer else tokens, ""
        if self.operation.is_signed and digits and self.how.tokens[digits[0]] in "+-":
            digits, sign = digits[1:], self.how.tokens[digits[0]].strip("+")
        if not digits or any(token >= self.keys.base for token in digits):
            return "".join(self.how.tokens[token] for token in whole)
        return sign + self.number(digits)

    def answer_of(self, row: np.ndarray) -> str:
        """Write the figures (W,) of an answer."""
        digits = self.number([int(digit) for digit in row[::-1] if digit >= 0])
        return "-" * bool((row == figures.MINUS).any()) + digits

    def operands(self, text: str) -> list[np.ndarray]:
        """Read a problem as a person types it; refuse what the model could not have learned."""
        symbol, count = self.operation.symbol, self.keys.operands
        usual = re.escape(symbol)
        if symbol == "*":
            usual = "[*×x]" if self.keys.base <= DIGITS.index("x") else "[*×]"
        text = text.lower() if 10 < self.keys.base <= len(DIGITS) else text
        number = "([0-9]+)" if self.keys.base <= 10 or self.keys.base > len(DIGITS) else "([0-9a-z]+)"
        found = re.fullmatch(r"\s*" + rf"\s*{usual}\s*".join([number] * count) + r"\s*=?\s*", text)
        if not found:
            shown = ["12", "7", "5", "31", *["4"] * count] if self.keys.base >= 10 else ["1"] * count
            example = self.question(*shown[:count])
            what = self.operation.plural
            raise UserError(f"this model knows {what} only, and {text!r} is none: write it like {example}")
        operands = [self._figures(part, width) for part, width in zip(found.groups(), self.widths, strict=True)]
        if symbol == "/" and not operands[1].any():
            raise UserError(f"{text!r} has no answer: ask for another divisor than 0")
        return operands

    def _figures(self, text: str, width: int) -> np.ndarray:
        """Read one operand (1, W); a UserError where it is longer or larger than any that was learned."""
        base, shown = self.keys.base, text if len(text) < 30 else text[:30] + "…"
        if not self.operation.strings:
            text = text.lstrip("0") or "0"
        whole = base > len(DIGITS)  # a number is a token
        if not whole and len(text) > width:
            raise UserError(
                f"{shown} has {counted(len(text), 'digit')}, and this model learned numbers of at most {width}: ask "
                "with smaller ones"
            )
        digits = [int(text)] if whole else [DIGITS.index(character) for character in reversed(text)]
        if max(digits) >= base or (
            self.keys.modulus and sum(d * base**k for k, d in enumerate(digits)) >= self.keys.numbers
        ):
            most = f"numbers below {self.keys.numbers}" if self.keys.modulus else f"digits below {base}"
            raise UserError(f"this model learned {most}, and {shown} is not one of them")
        return np.array([digits])
