"""The shapes of a way from one value to another. A style is an entry of `STYLES` and a YAML in conf/schedule/."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Style(NamedTuple):
    way: Callable[[float, float], float]  # how far on the way, from progress (0 to 1) and `power`; 0 and 1 are exact
    at_the_end: bool = False  # the way is the last `decay` of the run, and not what follows the warm-up


STYLES: dict[str, Style] = {
    "constant": Style(lambda progress, power: 0.0),
    "linear": Style(lambda progress, power: progress),
    "cosine": Style(lambda progress, power: (1 - math.cos(math.pi * progress)) / 2),
    "power": Style(lambda progress, power: progress**power),
    "wsd": Style(lambda progress, power: progress, at_the_end=True),  # warm up, stay, decay
}
