"""Between a command line and a checked configuration: Hydra composes, our schema judges.

`start` looks at the command line before Hydra runs it, so that every mistake in it is named at once, by one
process, before torch is imported and before a run directory is made. Then Hydra does what its users know.
"""

import argparse
import fnmatch
import itertools
import os
import re
import shlex
import sys
import time
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cleangpt.basics import files
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import Section, expected, keys, nearest
from cleangpt.basics.shown import visible
from cleangpt.config import composition
from cleangpt.config.composition import CONF, Sweeps
from cleangpt.machine import beginning, process
from cleangpt.terminal import patience, streams

WRONG_USE, FAILED = 2, 1


def start(main: Callable[[], Any], schema: type[Section], config_name: str, sweeps: Sweeps | None = None) -> None:
    """Check the command line, then let Hydra run `main`. Every way out of a program goes through here.

    `sweeps` are the keys of Hydra's own part, of a program that has -m: jobs in processes of their own, which leave a
    run directory each.
    """
    from hydra._internal.utils import get_args_parser

    process.before_torch()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come to us, who know how to say them
    register_resolvers(schema, sweeps)
    sys.argv[1:] = [as_it_stands(word, schema) for word in sys.argv[1:]]
    try:
        arguments = options(get_args_parser(), [_with_quoted_path(word) for word in sys.argv[1:]], schema)
        asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info
        streams.settle(goes_on=sweeps is not None and not asks)
        if arguments.multirun and sweeps is None:
            raise UserError(f"{Path(sys.argv[0]).name} has no sweeps (-m): start it once for each value")
        if arguments.multirun and _rank() is not None:
            _refuse_sweep_under_torchrun()
        if not (asks or arguments.shell_completion):
            from cleangpt.config import look_ahead

            look_ahead.check(arguments, schema, config_name, sweeps)
        main()
    except UserError as error:
        leave(error)
    except Exception as error:
        if sentence := composition.composition_mistake(error):
            leave(ConfigError([sentence]))
        if isinstance(error, OSError) and error.filename is not None:
            leave(UserError(f"{error.filename} can't be used ({error.strerror}): choose another place"))
        raise
    finally:
        sys.stdout.flush()  # while it can still be said that this fails


def leave(error: UserError) -> None:
    """Say once what is wrong, and exit with 2. Under torchrun only rank 0 speaks, and the others let it finish."""
    patience.started()
    if _rank() not in (None, 0):
        time.sleep(10)  # torchrun ends us as soon as rank 0 has left
    elif isinstance(error, ConfigError) and len(error.mistakes) > 1:
        lines = "".join(f"  {mistake}\n" for mistake in error.mistakes)
        sys.stderr.write(f"{len(error.mistakes)} mistakes in the configuration:\n{lines}")
    else:
        sys.stderr.write(f"{error}\n")
    sys.stderr.flush()
    sys.exit(WRONG_USE)


def run(action: Callable[[], int]) -> None:
    """Run what a program is for and exit with its status; what fails is shown in full and exits with 1."""
    status: int | UserError = FAILED

    def answer() -> int | UserError:
        try:
            return action()
        except UserError as error:
            return error  # no failure that torchrun would show with its traceback

    try:
        if _rank() is not None:
            from torch.distributed.elastic.multiprocessing.errors import record

            answer = record(answer)  # lets torchrun name the root cause
        with beginning.unwinding():
            status = answer()
        if isinstance(status, UserError):
            leave(status)  # here, where Hydra does not put a line before it
    except Exception as error:
        where = "" if _rank() is None else f"rank {_rank()}: "
        patience.started()
        sys.stderr.write(where + visible(files.full_disk(error) or traceback.format_exc()))
    sys.stdout.flush()
    sys.exit(status)


def _rank() -> int | None:
    """The global rank, where a launcher gave one."""
    return int(os.environ["RANK"]) if "RANK" in os.environ else None


def _refuse_sweep_under_torchrun() -> None:
    words = [word for word in sys.argv if word not in ("-m", "--multirun")]
    command = shlex.join(["python", words[0], "-m", *words[1:], f"processes={os.environ.get('WORLD_SIZE', 1)}"])
    raise UserError(f"a sweep starts the processes of its jobs itself: run `{command}` without torchrun")


# --------------------------------------------------------------------------------------------------------------
# Words of a command line


def quoted(path: Path) -> str:
    """A path as a value of Hydra's, whatever its characters."""
    return "'" + str(path).replace("'", "\\'") + "'"


def as_it_stands(word: str, schema: type[Section]) -> str:
    """Quote the value of a key that is free text, so that Hydra's grammar leaves every character of it alone."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or value == "null" or not any(fnmatch.fnmatchcase(name, pattern) for pattern in schema.verbatim):
        return word
    field = schema.model_fields.get(name)
    if value.startswith("[") and field is not None and list[str] in typing.get_args(field.annotation):
        return word
    from hydra.core.override_parser.types import Quote, QuotedString

    value = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", value)  # no interpolation
    return f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}"


def _with_quoted_path(word: str) -> str:
    """The directories of a sweep's jobs have `=` and `,` in their names: what is a path is no list of values."""
    key, _, value = word.partition("=")
    if not key.startswith("-") and set(value) & set("=,") and os.path.exists(value):
        return f"{key}={quoted(Path(value))}"
    return word


def options(parser: argparse.ArgumentParser, words: list[str], schema: type[Section]) -> argparse.Namespace:
    """What argparse makes of these words. Hydra, which reads them after us, finds its options before all overrides."""
    known = [option for option in parser._option_string_actions if option.startswith("--")]
    known = [option for option in known if option[2:] not in schema.model_fields]  # Hydra's --run says what is usual
    mistakes = []
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, _, value = word.partition("=")
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            mistakes.append(_no_option(name, value or after, schema))
    if mistakes:
        raise ConfigError(mistakes)

    def error(message: str) -> None:
        raise UserError(f"{message}: write key=value, as --help shows")

    parser.error = error
    found = parser.parse_intermixed_args(words)
    sys.argv[1:] = [word for word in words if word not in found.overrides] + found.overrides
    return found


def _no_option(name: str, value: str, schema: type[Section]) -> str:
    """`--steps 5`, as other programs have it."""
    known = keys(schema)
    groups = [path.name for path in Path(CONF).iterdir() if path.is_dir() and path.name in schema.model_fields]
    meant = name.strip("-").replace("-", "_")
    key = meant if meant in [*known, *groups] else nearest(meant, [*known, *groups])
    if key is None:
        return f"`{name}` is no option: write key=value, as --help shows"
    if not value or value.startswith("-") or "=" in value:
        value = "true" if key in known and "true" in expected(known[key]) else "…"
    return f"`{name}` is no option: write {key}={value}"


def hydra_words(words: list[str]) -> list[str]:
    """What of a command line says where configuration lies: --config-dir=…, -cd …, hydra.searchpath=…"""
    names = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "hydra.searchpath")
    found = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word in names:
            found += [word, after]
        elif word.partition("=")[0] in names:
            found.append(word)
    return found


# --------------------------------------------------------------------------------------------------------------
# Resolvers


def register_resolvers(schema: type[Section], sweeps: Sweeps | None = None) -> None:
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("run_stamp", _run_stamp, use_cache=True, replace=True)
    for part in ("groups", "keys"):
        OmegaConf.register_new_resolver(f"help_{part}", _help(part, schema), replace=True)
    OmegaConf.register_new_resolver("help_sweep", _help("sweep", sweeps), replace=True)


def _run_name(experiment: str | None, dataset: str, model: str) -> str:
    """The folder of a run below outputs/: its experiment, or what it trains on what."""
    return str(experiment or f"{dataset}-{model}").replace("/", "-")


_stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(2).hex()}"


def _run_stamp() -> str:
    """When this process began, with a few random digits, since two runs may begin in one second."""
    return _stamp


def _help(part: str, about: type[Section] | Sweeps | None) -> Callable[..., str]:
    """What stands for ${help_keys:} and the like in the templates of --help."""

    def words(*, _root_: DictConfig) -> str:
        from cleangpt.config import program_help

        return getattr(program_help, part)(about, _root_)

    return words
