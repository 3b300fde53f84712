"""Between a command line and a checked configuration: Hydra composes, our schema judges.

`start` looks at the command line before Hydra runs it, so that every mistake in it is named at once, by one
process, before torch is imported and before a run directory is made. Then Hydra does what its users know.
"""

import fnmatch
import itertools
import os
import re
import shlex
import sys
import time
import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cleangpt import patience, process
from cleangpt.errors import ConfigError, UserError
from cleangpt.schema import Section, expected, keys, nearest, parse
from cleangpt.shown import visible

CONF = str(Path(__file__).resolve().parent.parent / "conf")
WRONG_USE, FAILED = 2, 1


def start(main: Callable[[], Any], schema: type[Section], config_name: str, sweeps: bool = False) -> None:
    """Check the command line, then let Hydra run `main`. Every way out of a program goes through here.

    `sweeps` says that the program has -m: jobs in processes of their own, which leave a run directory each.
    """
    from hydra._internal.utils import get_args_parser

    process.before_torch()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come to us, who know how to say them
    register_resolvers(schema)
    sys.argv[1:] = [as_it_stands(word, schema) for word in sys.argv[1:]]
    try:
        sys.argv[1:] = [_with_quoted_path(word) for word in sys.argv[1:]]
        arguments = get_args_parser().parse_args()
        asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info
        if arguments.multirun and not sweeps:
            raise UserError(f"{Path(sys.argv[0]).name} has no sweeps (-m): start it once for each value")
        if arguments.multirun and _rank() is not None:
            _refuse_sweep_under_torchrun()
        if not (asks or arguments.shell_completion):
            check(arguments, schema, config_name)
        main()
    except UserError as error:
        leave(error)
    except OSError as error:
        if error.filename is None:
            raise
        leave(UserError(f"{error.filename} can't be used ({error.strerror}): choose another place"))
    except Exception as error:
        sentence = composition_mistake(error)
        if sentence is None:
            raise
        leave(ConfigError([sentence]))


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
        status = answer()
        if isinstance(status, UserError):
            leave(status)  # here, where Hydra does not put a line before it
    except Exception:
        where = "" if _rank() is None else f"rank {_rank()}: "
        patience.started()
        sys.stderr.write(where + visible(traceback.format_exc()))
    sys.stdout.flush()
    sys.exit(status)


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain data; past this point there is no DictConfig."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


def _rank() -> int | None:
    """The global rank, where a launcher gave one."""
    return int(os.environ["RANK"]) if "RANK" in os.environ else None


def _refuse_sweep_under_torchrun() -> None:
    words = [word for word in sys.argv if word not in ("-m", "--multirun")]
    command = shlex.join(["python", words[0], "-m", *words[1:], f"processes={os.environ.get('WORLD_SIZE', 1)}"])
    raise UserError(f"a sweep starts the processes of its jobs itself: run `{command}` without torchrun")


def defaults(config_name: str, *choices: str) -> dict[str, Any]:
    """What conf/ composes to with nothing but these choices of groups, also while Hydra runs a program."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(CONF, job_name=config_name, version_base=None):
            return plain(compose(config_name, list(choices)))
    finally:
        GlobalHydra.instance().hydra = running


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


def hydra_words() -> list[str]:
    """What of this command line says where configuration lies: --config-dir=…, -cd …, hydra.searchpath=…"""
    names = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "hydra.searchpath")
    words = sys.argv[1:]
    found = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word in names:
            found += [word, after]
        elif word.partition("=")[0] in names:
            found.append(word)
    return found


# --------------------------------------------------------------------------------------------------------------
# The look ahead


def check(arguments: Any, schema: type[Section], config_name: str) -> None:
    """Raise a ConfigError with every mistake that this command line makes, in any job of a sweep."""
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    folder = os.path.abspath(arguments.config_path or CONF)
    own = arguments.config_dir and os.path.abspath(arguments.config_dir)
    if own and not os.path.isdir(own):
        raise UserError(f"--config-dir={arguments.config_dir} is no folder")
    with initialize_config_dir(folder, job_name=config_name, version_base=None):
        if own:
            paths = GlobalHydra.instance().config_loader().get_search_path()
            paths.prepend("command-line", f"file://{own}", SearchPathQuery(provider="schema"))
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2(config_name, paths)
        mistakes = _Judge(arguments, schema, config_name).mistakes()
    if mistakes:
        raise ConfigError(mistakes)


class _Judge:
    """Composes what a command line asks for: one configuration, or that of each job of a sweep."""

    def __init__(self, arguments: Any, schema: type[Section], config_name: str):
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self.loader = GlobalHydra.instance().config_loader()
        self.parser = OverridesParser.create(self.loader)
        self.schema, self.name, self.sweeps = schema, arguments.config_name or config_name, arguments.multirun
        self.lines = arguments.overrides
        self.found: dict[str, None] = {}  # each sentence once, in order

    def mistakes(self) -> list[str]:
        choices = self._choices(self.lines, searches=True)
        first = [alternatives[0] for alternatives in choices.values()]
        hydra, devices = self._compose(first)
        if self.sweeps and hydra is not None:
            from cleangpt.sweeps import settings

            self._note(settings.mistakes(hydra))
            params = hydra["sweeper"].get("params") or {}
            searches = hydra["sweeper"].get("name") == "optuna"
            given = self._choices([f"{key}={value}" for key, value in params.items()], searches)
            choices = given | self._choices(self.lines, searches)
            for job in _jobs(list(choices.values()), searches):
                if job != first:
                    devices |= self._compose(job)[1]
        elif hydra is not None and hydra["sweeper"].get("params") and hydra["mode"] != "RUN":
            chosen = [line for line in self.lines if line.startswith("sweep=")] or ["hydra.sweeper.params"]
            self._note([f"`{chosen[0]}` is a sweep: add -m to run all of it"])
        for wanted in sorted(devices & {"cuda", "mps"}):
            from cleangpt import device

            self._note(device.mistakes(wanted))
        return list(self.found)

    def _note(self, sentences: list[str]) -> None:
        self.found |= dict.fromkeys(sentences)

    def _compose(self, overrides: list[str]) -> tuple[dict[str, Any] | None, set[str]]:
        """Judge one configuration; Hydra's own part of it, and the device that it asks for."""
        from hydra import compose
        from hydra.core.hydra_config import HydraConfig

        hydra, data = None, {}
        try:
            composed = compose(self.name, overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            OmegaConf.set_struct(composed, False)
            parts = {part: plain(composed.hydra[part]) for part in ("launcher", "sweeper")}
            hydra = {**parts, "mode": composed.hydra.mode and composed.hydra.mode.name}
            del composed["hydra"]
            data = plain(composed)
            parse(data, self.schema)
            if self.sweeps and data.get("resume") not in (None, "auto"):
                self._note(["`resume` can't be part of a sweep, whose jobs begin runs of their own: use init_from"])
        except ConfigError as error:
            self._note(_about_groups(error.mistakes, data, self.loader))
        except Exception as error:
            sentence = composition_mistake(error)
            if sentence is None:
                raise
            self._note([sentence])
        return hydra, {data.get("device")} & {"cuda", "mps"}

    def _choices(self, lines: list[str], searches: bool) -> dict[str, list[str]]:
        """Of each key the overrides that compose, one for each value; what is wrong with the others is noted."""
        from hydra.errors import HydraException

        choices: dict[str, list[str]] = {}
        for line in lines:
            try:
                override = self.parser.parse_override(line)
                assert override.key_or_group
            except (HydraException, AssertionError):
                self._note([f"`{line}` is not an override: write key=value, and quote values with special characters"])
                continue
            key = override.get_key_element()
            if not override.is_sweep_override():
                values = [line]
            elif not self.sweeps:
                self._note([f"`{line}` is a sweep: add -m to run all of it, or quote the value"])
                continue
            elif override.is_hydra_override():
                self._note([f"`{line}` can't be swept: one sweep has one hydra configuration"])
                continue
            elif override.is_discrete_sweep():
                values = [f"{key}={value}" for value in override.sweep_string_iterator()]
            elif searches:
                values = [f"{key}={end}" for end in (override.value().start, override.value().end)]
            else:
                self._note([f"`{line}` has no end of values: list some, or search with hydra/sweeper=optuna"])
                continue
            judged = [self._judge(self.parser.parse_override(value), value) for value in values]
            if kept := [value for value in judged if value is not None]:
                choices[key] = kept
        return choices

    def _judge(self, override: Any, line: str) -> str | None:
        """An override that composes, or None, with a sentence on an option that a group does not have.

        A value override is forced (`++`), so that a misspelled key gets as far as our schema, which names the right
        one.
        """
        from hydra.core.override_parser.types import OverrideType

        group = override.key_or_group
        options = self.loader.get_group_options(group)
        if override.type == OverrideType.DEL:
            return line
        if group.startswith("hydra") and not group.startswith(("hydra.launcher.", "hydra.sweeper.")):
            return line
        if not options or isinstance(override.value(), dict):
            return "++" + line.lstrip("+")
        if override.value() is None:
            self._note([f"`{line}` chooses nothing: write ~{group}, or one of {', '.join(options)}"])
            return None
        chosen = override.value() if isinstance(override.value(), list) else [override.value()]
        unknown = [option for option in chosen if option is not None and str(option) not in options]
        self._note([_unknown_option(group, str(option), options) for option in unknown])
        return None if unknown else line


def _jobs(choices: list[list[str]], searches: bool) -> Iterator[list[str]]:
    """The overrides of each job: all combinations, or of a search every end of every key."""
    if not searches:
        yield from map(list, itertools.product(*choices))
        return
    first = [alternatives[0] for alternatives in choices]
    yield first
    for place, alternatives in enumerate(choices):
        for other in alternatives[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


def _about_groups(mistakes: list[str], data: dict[str, Any], loader: Any) -> list[str]:
    """A group like experiment is no key, and so unknown to the schema."""
    said = []
    for mistake in mistakes:
        key = mistake.split("`")[1]
        guess = nearest(key, [name for name in loader.list_groups("") if name != "hydra"])
        unguessed = f"`{key}` is not a key: there are"
        if guess and "." not in key and mistake.startswith(unguessed):
            mistake = f"`{key}` is not a key: did you mean `{guess}`?"
        said.append(mistake)
    return said


def _unknown_option(group: str, option: str, options: list[str]) -> str:
    guess = nearest(option, options)
    hint = f"did you mean `{group}={guess}`? There are" if guess else "there are"
    return f"`{group}={option}` does not exist: {hint} {', '.join(options)}"


def composition_mistake(error: Exception) -> str | None:
    """One sentence for what Hydra or OmegaConf could not compose, or None for any other exception."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "the configuration can't be composed: " + " ".join(lines).partition(" Config search path")[0]


# --------------------------------------------------------------------------------------------------------------
# Resolvers and help


def register_resolvers(schema: type[Section]) -> None:
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("run_stamp", _run_stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("key_help", lambda: key_help(keys(schema)), replace=True)
    OmegaConf.register_new_resolver("sweep_help", _sweep_help, replace=True)


def _run_name(experiment: str | None, dataset: str, model: str) -> str:
    """The folder of a run below outputs/: its experiment, or what it trains on what."""
    return str(experiment or f"{dataset}-{model}").replace("/", "-")


_stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(2).hex()}"


def _run_stamp() -> str:
    """When this process began, with a few random digits, since two runs may begin in one second."""
    return _stamp


def _sweep_help() -> str:
    from cleangpt.sweeps import settings

    return key_help(settings.help_keys())


def key_help(found: dict[str, Any]) -> str:
    """Every key with its meaning and what it may be, for --help. `$` would be Hydra's."""
    width = max(map(len, found))
    return "\n".join(
        f"  {key:{width}}  {field.description} [{expected(field)}]".replace("$", "$$") for key, field in found.items()
    )
