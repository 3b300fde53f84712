"""Between a command line and a checked configuration: Hydra composes, our schema judges.

`start` looks at the command line before Hydra runs it, so that every mistake in it is named at once, by one
process, before torch is imported and before a run directory is made. Then Hydra does what its users know.
"""

import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cleangpt.errors import ConfigError, UserError
from cleangpt.schema import Section, expected, keys, nearest, parse

CONF = str(Path(__file__).resolve().parent.parent / "conf")
WRONG_USE, FAILED = 2, 1


def start(main: Callable[[], Any], schema: type[Section], config_name: str) -> None:
    """Check the command line, then let Hydra run `main`. Every way out of a program goes through here."""
    from hydra._internal.utils import get_args_parser

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come to us, who know how to say them
    register_resolvers(schema)
    try:
        arguments = get_args_parser().parse_args()
        asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info
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
    status = FAILED
    try:
        if _rank() is not None:
            from torch.distributed.elastic.multiprocessing.errors import record

            action = record(action)  # lets torchrun name the root cause
        status = action()
    except UserError as error:
        leave(error)  # here, where Hydra does not put a line before it
    except Exception:
        where = "" if _rank() is None else f"rank {_rank()}: "
        sys.stderr.write(where + traceback.format_exc())
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
# The look ahead


def check(arguments: Any, schema: type[Section], config_name: str) -> None:
    """Raise a ConfigError with every mistake that this command line makes."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

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
        loader = GlobalHydra.instance().config_loader()
        overrides, mistakes = _judge_overrides(arguments.overrides, loader, arguments.multirun)
        data = {}
        try:
            composed = compose(arguments.config_name or config_name, overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            data = plain(composed)
            parse(data, schema)
        except ConfigError as error:
            mistakes += _about_groups(error.mistakes, data, loader)
        except Exception as error:
            sentence = composition_mistake(error)
            if sentence is None:
                raise
            mistakes.append(sentence)
    if data.get("device") in ("cuda", "mps"):
        from cleangpt import device

        mistakes += device.mistakes(data["device"])
    if mistakes:
        raise ConfigError(mistakes)


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


def _judge_overrides(lines: list[str], loader: Any, sweeps: bool) -> tuple[list[str], list[str]]:
    """The overrides that compose, and a sentence on each option that a group does not have.

    A value override is forced (`++`), so that a misspelled key gets as far as our schema, which names the right one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    parser = OverridesParser.create(loader)
    kept, mistakes = [], []
    for line in lines:
        try:
            override = parser.parse_override(line)
            assert override.key_or_group
        except (HydraException, AssertionError):
            mistakes.append(f"`{line}` is not an override: write key=value, and quote values with special characters")
            continue
        if override.is_sweep_override():
            if sweeps:
                line = f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
                override = parser.parse_override(line)
            else:
                mistakes.append(f"`{line}` is a sweep: add -m to run all of it, or quote the value")
                continue
        group = override.key_or_group
        options = loader.get_group_options(group)
        if override.type == OverrideType.DEL or group.startswith("hydra"):
            kept.append(line)
        elif options and override.value() is None:
            mistakes.append(f"`{line}` chooses nothing: write ~{group}, or one of {', '.join(options)}")
        elif options and not isinstance(override.value(), dict):
            chosen = override.value() if isinstance(override.value(), list) else [override.value()]
            unknown = [option for option in chosen if option is not None and str(option) not in options]
            mistakes += [_unknown_option(group, str(option), options) for option in unknown]
            if not unknown:
                kept.append(line)
        else:
            kept.append("++" + line.lstrip("+"))
    return kept, mistakes


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
    OmegaConf.register_new_resolver("key_help", lambda: key_help(schema), replace=True)


def _run_name(experiment: str | None, dataset: str, model: str) -> str:
    """The folder of a run below outputs/: its experiment, or what it trains on what."""
    return str(experiment or f"{dataset}-{model}").replace("/", "-")


_stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(2).hex()}"


def _run_stamp() -> str:
    """When this process began, with a few random digits, since two runs may begin in one second."""
    return _stamp


def key_help(schema: type[Section]) -> str:
    """Every key with its meaning and what it may be, for --help. `$` would be Hydra's."""
    found = keys(schema)
    width = max(map(len, found))
    return "\n".join(
        f"  {key:{width}}  {field.description} [{expected(field)}]".replace("$", "$$") for key, field in found.items()
    )
