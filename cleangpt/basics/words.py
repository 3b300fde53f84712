"""Numbers in the words of a sentence."""


def counted(number: int, unit: str) -> str:
    """`1 layer`, `2,000 steps`, `3 processes`."""
    return f"{number:,} {unit if number == 1 else unit + ('es' if unit.endswith('s') else 's')}"


def seconds(duration: float) -> str:
    """`12.3 s`, and `7 ms` where that would be nothing."""
    return f"{duration:.1f} s" if duration >= 0.1 else f"{max(1, round(1000 * duration))} ms"
