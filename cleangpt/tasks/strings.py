"""Strings over an alphabet, numbered: the shortest first, those of one length in the order of the alphabet."""

from dataclasses import dataclass

import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import integers


@dataclass(frozen=True)
class Strings:
    """All strings over an alphabet of at most so many letters."""

    alphabet: str
    longest: int

    @property
    def firsts(self) -> list[int]:
        """Number the first string of 1, 2, … letters, and one behind the last."""
        found = [0]
        for length in range(1, self.longest + 1):
            found.append(found[-1] + len(self.alphabet) ** length)
        return found

    @property
    def count(self) -> int:
        return self.firsts[-1]

    def letters(self, number: np.ndarray) -> np.ndarray:
        """Turn numbers (n,) into places in the alphabet (n, longest), -1 behind the end of a string."""
        firsts = np.array(self.firsts, integers(self.count))
        length = np.searchsorted(firsts, number, side="right")
        rest = number - firsts[length - 1]
        found = np.full((len(number), self.longest), -1, np.int64)
        for place in reversed(range(self.longest)):
            inside = place < length
            found[inside, place] = rest[inside] % len(self.alphabet)
            rest[inside] //= len(self.alphabet)
        return found

    def number(self, text: str) -> int:
        """Number a string; a UserError where it is none of these."""
        if not 0 < len(text) <= self.longest or set(text) - set(self.alphabet):
            shown = text if len(text) < 30 else text[:30] + "…"
            raise UserError(
                f"this model knows strings of at most {self.longest} of {self.alphabet}, and {shown!r} is none: write "
                f"it like {(self.alphabet * self.longest)[: self.longest]}"
            )
        within = 0
        for letter in text:
            within = within * len(self.alphabet) + self.alphabet.index(letter)
        return self.firsts[len(text) - 1] + within


def repeats(letters: np.ndarray) -> np.ndarray:
    """Count how many letters of each string (n, L) stand in it before: (n,)."""
    ordered = np.sort(letters, axis=1)
    return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(axis=1)


def inversions(letters: np.ndarray) -> np.ndarray:
    """Count how many pairs of letters of each string (n, L) stand in the wrong order: (n,)."""
    found = np.zeros(len(letters), np.int64)
    for place in range(letters.shape[1]):
        after = letters[:, place + 1 :]
        found += ((after < letters[:, place : place + 1]) & (after >= 0)).sum(axis=1)
    return found
