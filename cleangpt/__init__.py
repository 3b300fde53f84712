"""CleanGPT: a Hydra-configured platform for experiments with small and medium GPTs.

    run = cleangpt.train("experiment=adder", {"dataset.digits": 2})
    run.ask("123+456")

What `__all__` names is a promise, and described in docs/library.md; the rest is not. Nothing is loaded before it is
used: neither torch, nor anything else that takes a while.
"""

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cleangpt.basics.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from cleangpt.basics.errors import ConfigError, UserError
    from cleangpt.library.composing import compose
    from cleangpt.library.many import Comparison, Runs, compare, runs, sweep
    from cleangpt.library.run import Run, train
    from cleangpt.library.starting import TrainingFailed

__all__ = [
    "Comparison",
    "ConfigError",
    "Run",
    "Runs",
    "TrainingFailed",
    "UserError",
    "compare",
    "compose",
    "runs",
    "sweep",
    "train",
]

_FROM = {
    "basics.errors": ("ConfigError", "UserError"),
    "library.composing": ("compose",),
    "library.many": ("Comparison", "Runs", "compare", "runs", "sweep"),
    "library.run": ("Run", "train"),
    "library.starting": ("TrainingFailed",),
}


_loading = threading.RLock()  # what is loaded below imports in circles, which two threads must not enter at once


def __getattr__(name: str) -> Any:
    for module, names in _FROM.items():
        if name in names:
            with _loading:
                found = getattr(import_module(f"cleangpt.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'cleangpt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
