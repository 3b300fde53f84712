"""Which rows of a tensor a process holds."""


def rows_of(rows: int, place: int, count: int) -> tuple[int, int]:
    """Say which rows the process at this place of so many holds: all as many, but for the last ones."""
    each = -(-rows // count)
    return min(place * each, rows), min((place + 1) * each, rows)
