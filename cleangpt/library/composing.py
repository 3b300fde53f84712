"""Compose a configuration as the command does, in a process that may have a Hydra of its own: no trace is left of ours.

Names and mistakes are those of the command line, and a mistake is an exception.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Here, and not where each is used: Hydra's modules import each other, so that two threads must not load them at once.
import hydra._internal.hydra
import hydra.core.override_parser.overrides_parser  # noqa: F401
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer

from cleangpt.basics.errors import UserError
from cleangpt.config import cli, command_line, composition, look_ahead
from cleangpt.config.experiment import Config
from cleangpt.library.words import Asked, words
from cleangpt.sweeps import settings

_one_at_a_time = threading.Lock()  # Hydra's state is one for a process


def compose(*asked: Asked) -> Config:
    """Compose and check the configuration of a training; a ConfigError has every mistake.

    `asked` are words as on the command line (`"dataset=adder"`) and values by key (`{"dataset.digits": 2}`).
    """
    return checked(words(asked)).config


def checked(line: Sequence[str], of_sweep: bool = False) -> look_ahead.Ahead[Config]:
    """Compose and check what a command line asks for, besides what only a command can do."""
    for word in line:
        if word.startswith("-") and not word.startswith(command_line.PLACES):
            raise UserError(f"{word} is for the command: leave it out (cleangpt.sweep runs sweeps)")
        if command_line.split(word)[0] == "hydra.mode":
            raise UserError(f"{word} is for the command: leave it out (cleangpt.sweep runs sweeps)")
    if of_sweep:
        line = ["-m", *line]
    with _apart():
        cli.register_resolvers(Config, settings, cli.new_stamp())
        line = [command_line.as_it_stands(word, Config) for word in line]
        arguments = command_line.options(get_args_parser(), line, Config)
        composition.own = arguments.config_dir
        return look_ahead.check(arguments, Config, "train", settings)


def defaults(name: str) -> dict[str, Any]:
    """Compose conf/ for another program."""
    with _apart():
        return composition.defaults(name)


def laid_over(data: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values by dotted key, or by section, over a configuration."""
    found = dict(data)
    for key, value in given.items():
        section, _, inner = key.partition(".")
        if inner or (isinstance(value, Mapping) and isinstance(found.get(section), dict)):
            value = laid_over(found.get(section) or {}, {inner: value} if inner else value)
        found[section] = value
    return found


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Have Hydra begin anew here, and put back whatever was there before. What it knows of plugins it may keep."""
    with _one_at_a_time:
        of_one_program = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
        instances: dict[Any, Any] = Singleton._instances
        theirs = {kind: instances.pop(kind) for kind in of_one_program if kind in instances}
        resolvers, BaseContainer._resolvers = BaseContainer._resolvers, dict(BaseContainer._resolvers)
        own, program = composition.own, composition.program
        composition.own, composition.program = None, "train"
        try:
            yield
        finally:
            for kind in of_one_program:
                instances.pop(kind, None)
            instances |= theirs
            BaseContainer._resolvers = resolvers
            composition.own, composition.program = own, program
