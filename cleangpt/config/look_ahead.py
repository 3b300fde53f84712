"""Compose and judge what a command line asks for, before Hydra runs it: every mistake in it is named at once.

What is right as it was typed is composed this once, and Hydra runs that. Where something is wrong, it is composed again
in a way that gets past the first mistake. The jobs of a sweep go to processes of their own, each of which looks ahead
at its own command line.
"""

import contextlib
import copy
import functools
import itertools
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple

from omegaconf import DictConfig, OmegaConf

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import nearest, parse
from cleangpt.config.asked import C
from cleangpt.config.command_line import hydra_parser
from cleangpt.config.composition import CONF, Sweeps, base, composition_mistake, plain

NAMES_CODE = ("_" + "target_", "()")  # of Hydra, and of Python's logging


class Ahead(NamedTuple, Generic[C]):
    """The configuration that was found to be right, of a sweep that of its first job."""

    data: dict[str, Any]  # as composed
    config: C  # checked
    own: tuple[str, ...]  # the files that are not ours of which it was composed
    folder: str  # where the run would lie, or the sweep
    run: Callable[[Callable[[DictConfig], None]], None] | None  # has Hydra run a function with what it composed here


def check(arguments: Namespace, schema: type[C], config_name: str, sweeps: Sweeps | None = None) -> Ahead[C]:
    """Raise a ConfigError with every mistake that this command line makes, in any job of a sweep."""
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    paths = create_automatic_config_search_path(os.path.abspath(sys.argv[0]), None, arguments.config_path or CONF)
    if arguments.config_dir and not os.path.isdir(arguments.config_dir):
        raise UserError(f"--config-dir={arguments.config_dir} is no folder")
    with warnings.catch_warnings(), initialize_config_dir(CONF, job_name=config_name, **base()):
        warnings.filterwarnings("ignore", ".* is not available")  # which is a mistake here
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2(config_name, paths)
        judge = _Judge(arguments, schema, config_name, sweeps)
        if (composed := judge.right_as_typed()) is None:
            mistakes = judge.mistakes()
            if mistakes or judge.first is None:
                raise ConfigError(mistakes)
        first, own = judge.first, judge.own_files()
    assert first is not None
    run = None if composed is None else functools.partial(_run, hydra, judge.name, judge.lines, composed)
    return Ahead(*first, own, judge.folder, run)


def _run(hydra: Any, name: str, words: list[str], composed: DictConfig, function: Callable[[DictConfig], None]) -> None:
    """Have Hydra run this as @hydra.main does, which would compose twice more: to learn the mode, and to run it."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().initialize(hydra)
    OmegaConf.set_readonly(composed.hydra, False)  # as Hydra makes it
    first = iter([composed])  # hydra.verbose has it composed once more, to be taken apart
    hydra.config_loader.load_configuration = lambda *_, **__: next(first, None) or copy.deepcopy(composed)
    try:
        hydra.run(name, function, words)
    finally:
        GlobalHydra.instance().clear()


class _Judge(Generic[C]):
    """Composes what a command line asks for: one configuration, or that of each job of a sweep."""

    def __init__(self, arguments: Namespace, schema: type[C], config_name: str, sweeps: Sweeps | None):
        from hydra.core.global_hydra import GlobalHydra

        self.loader: Any = GlobalHydra.instance().config_loader()
        self.parser = hydra_parser(self.loader)
        self.schema, self.name = schema, arguments.config_name or config_name
        self.sweeps = sweeps if arguments.multirun else None
        self.lines: list[str] = arguments.overrides
        self.words = self.lines  # of the configuration, of a sweep of its first job
        self.found: dict[str, None] = {}  # each sentence once, in order
        self.folder = ""
        self.first: tuple[dict[str, Any], C] | None = None  # the first that was right, as composed and checked

    def right_as_typed(self) -> DictConfig | None:
        """Compose what was typed, if nothing is to be said about it."""
        from hydra.types import RunMode

        if self.sweeps:
            return None
        try:
            _, devices, composed = self._compose(self.lines)
        except (ValueError, AssertionError):  # Hydra's own, on `model=3`, `model=null` and `=4`
            return None
        self._note_devices(devices)
        if composed is not None and not self.found:
            hydra = composed.hydra
            if not (hydra.searchpath or hydra.sweeper.get("params")) and hydra.mode in (None, RunMode.RUN):
                return composed
        self.found, self.first = {}, None
        return None

    def mistakes(self) -> list[str]:
        self._look_where_asked()
        choices = self._choices(self.lines, searches=True)
        self.words = [alternatives[0] for alternatives in choices.values()]
        hydra, devices, _ = self._compose(self.words)
        if self.sweeps and hydra is not None:
            self._note(self.sweeps.mistakes(hydra))
            params = hydra["sweeper"].get("params") or {}
            searches = hydra["sweeper"].get("name") == "optuna"
            given = self._choices([f"{key}={value}" for key, value in params.items()], searches)
            choices = given | self._choices(self.lines, searches)
            for job in _jobs(list(choices.values()), searches):
                if job != self.words:
                    devices |= self._compose(job)[1]
        elif hydra is not None and hydra["sweeper"].get("params") and hydra["mode"] != "RUN":
            chosen = [line for line in self.lines if line.startswith("sweep=")] or ["hydra.sweeper.params"]
            self._note([f"`{chosen[0]}` is a sweep: add -m to run all of it"])
        self._note_devices(devices)
        return list(self.found)

    def _note_devices(self, wanted: set[str]) -> None:
        for name in sorted(wanted):
            from cleangpt.machine import device

            self._note(device.mistakes(name))

    def _note(self, sentences: list[str]) -> None:
        self.found |= dict.fromkeys(sentences)

    def _look_where_asked(self) -> None:
        """Have the groups know what lies in the folders of hydra.searchpath, in which Hydra looks too."""
        from hydra.errors import HydraException

        overrides = []
        for line in self.lines:
            with contextlib.suppress(HydraException):
                overrides.append(self.parser.parse_override(line))
        try:
            self.loader._process_config_searchpath(self.name, overrides, self.loader.repository)
        except Exception as error:
            if composition_mistake(error) is None:
                raise
            return  # which is said where this is composed
        lacking = [source for source in self.loader.get_sources() if not source.available()]
        asked = [f"{source.scheme()}://{source.path}" for source in lacking if "hydra.searchpath" in source.provider]
        self._note([f"`hydra.searchpath` names {path}, which is no folder" for path in asked])

    def _compose(self, overrides: list[str]) -> tuple[dict[str, Any] | None, set[str], DictConfig | None]:
        """Judge one configuration: parts of Hydra's own, the GPU that it asks for, and the whole as Hydra has it."""
        from hydra import compose
        from hydra.core.hydra_config import HydraConfig

        hydra, data, composed = None, dict[str, Any](), None
        try:
            composed = compose(self.name, overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            parts = {part: plain(composed.hydra[part]) for part in ("launcher", "sweeper")}
            hydra = {**parts, "mode": composed.hydra.mode and composed.hydra.mode.name}
            self.folder = self.folder or str((composed.hydra.sweep if self.sweeps else composed.hydra.run).dir)
            self._note(_named_code(OmegaConf.to_container(composed.hydra)))
            data = plain(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
            checked = parse(data, self.schema)
            self.first = self.first or (data, checked)
            if self.sweeps and data.get("resume") not in (None, "auto"):
                self._note(["`resume` can't be part of a sweep, whose jobs begin runs of their own: use init_from"])
        except ConfigError as error:
            self._note(_about_groups(error.mistakes, data, self.loader))
        except Exception as error:
            sentence = composition_mistake(error)
            if sentence is None:
                raise
            self._note([sentence])
        return hydra, {device for device in ("cuda", "mps") if data.get("device") == device}, composed

    def own_files(self) -> tuple[str, ...]:
        """List the files of others that the (first) configuration is composed of."""
        from hydra.types import RunMode

        sources = [source for source in self.loader.get_sources() if source.scheme() == "file"]
        if all(source.path.startswith(CONF) for source in sources):
            return ()
        found = []
        for default in self.loader.compute_defaults_list(self.name, self.words, RunMode.RUN).defaults:
            name = default.config_path
            source = next((source for source in sources if name and source.is_config(name)), None)
            if source is not None and not source.path.startswith(CONF):
                found.append(os.path.normpath(Path(source.path, f"{name}.yaml")))
        return tuple(found)

    def _choices(self, lines: list[str], searches: bool) -> dict[str, list[str]]:
        """Map each key to the overrides that compose, one for each value; what is wrong with the others is noted."""
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
        """Make an override that composes, or None, with a sentence on an option that a group does not have.

        A value override is forced (`++`), so that a misspelled key gets as far as our schema, which names the right
        one.
        """
        from hydra.core.override_parser.types import OverrideType

        group = override.key_or_group
        options = self.loader.get_group_options(group)
        of_hydra = group.startswith("hydra") and not group.startswith(("hydra.launcher.", "hydra.sweeper."))
        if override.type == OverrideType.DEL or (of_hydra and not (options and override.value() is None)):
            return line
        if group.endswith(".name") and self.loader.get_group_options(group.removesuffix(".name")):
            self._note([f"`{line}` can't be set by itself: write {group.removesuffix('.name')}={override.value()}"])
            return None
        if not options or isinstance(override.value(), dict):
            return "++" + line.lstrip("+")
        if override.value() is None:
            self._note([f"`{line}` chooses nothing: write ~{group}, or one of {', '.join(options)}"])
            return None
        chosen = override.value() if isinstance(override.value(), list) else [override.value()]
        unknown = [str(option) for option in chosen if option is not None and str(option) not in options]
        for option in unknown:
            guess = nearest(option, options)
            hint = f"did you mean `{group}={guess}`? There are" if guess else "there are"
            self._note([f"`{group}={option}` does not exist: {hint} {', '.join(options)}"])
        return None if unknown else line


def _named_code(hydra: Any, key: str = "hydra") -> list[str]:
    """Find what of Hydra's own part names code to run, which no configuration may. Plugins are looked at elsewhere."""
    found = []
    for name, value in hydra.items() if isinstance(hydra, dict) else enumerate(hydra):
        inner = f"{key}.{name}"
        foreign_class = name == "class" and not str(value).startswith("logging.")
        if (name in NAMES_CODE or foreign_class) and key not in ("hydra.launcher", "hydra.sweeper"):
            found.append(f"`{inner}` names code to run, {value}, which no configuration may: leave it out")
        elif isinstance(value, dict | list):
            found += _named_code(value, inner)
    return found


def _jobs(choices: list[list[str]], searches: bool) -> Iterator[list[str]]:
    """List the overrides of each job: all combinations, or of a search every end of every key."""
    if not searches:
        yield from map(list, itertools.product(*choices))
        return
    first = [alternatives[0] for alternatives in choices]
    yield first
    for place, alternatives in enumerate(choices):
        for other in alternatives[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


def _about_groups(mistakes: list[str], data: dict[str, Any], loader: Any) -> list[str]:
    """Guess at a group like experiment, which is no key, and so unknown to the schema."""
    groups = [name for name in loader.list_groups("") if name != "hydra"]
    said = []
    for mistake in mistakes:
        key = mistake.split("`")[1]
        unguessed = "." not in key and mistake.startswith(f"`{key}` is not a key: there are")
        guess = nearest(key, groups) if unguessed else None
        said.append(f"`{key}` is not a key: did you mean `{guess}`?" if guess else mistake)
    return said
