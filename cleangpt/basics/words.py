"""Numbers and names in the words of a sentence."""


def counted(number: int, unit: str) -> str:
    """Write `1 layer`, `2,000 steps`, `3 processes`."""
    return f"{number:,} {unit if number == 1 else unit + ('es' if unit.endswith('s') else 's')}"


def seconds(duration: float) -> str:
    """Write `12.3 s`, and `7 ms` where that would be nothing."""
    return f"{duration:.1f} s" if duration >= 0.1 else f"{max(1, round(1000 * duration))} ms"


def abbreviated(number: float) -> str:
    """Write `12.3M`, `1.5k`, `7`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{letter}"
    return f"{number:.0f}"


def listed(names: list[str], most: int | None = None) -> str:
    """Write `one`, `one and two`, `one, two and three`; of many more than `most`, so many and how many more."""
    if most is not None and len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
