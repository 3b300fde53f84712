"""Start and end every program: Hydra composes its configuration, our schema judges it.

`start` looks at the command line before Hydra runs it, so that every mistake in it is named at once, by one process,
before torch is imported and before a run directory is made. Then Hydra does what its users know.
"""

import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import omegaconf
from omegaconf import DictConfig, OmegaConf

from cleangpt.basics import files, schema, verbs
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import Section
from cleangpt.basics.shown import visible
from cleangpt.config import command_line, composition, look_ahead
from cleangpt.config.asked import Asked, C
from cleangpt.config.composition import CONF, Sweeps
from cleangpt.machine import beginning, process
from cleangpt.terminal import patience, streams

WRONG_USE, FAILED = 2, 1


def new_stamp() -> str:
    """Say when it is, with a few random digits, since two runs may begin in one second."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(2).hex()}"


STAMP = new_stamp()  # when this process began


def start(main: Callable[[Asked[C]], int], section: type[C], config_name: str, sweeps: Sweeps | None = None) -> None:
    """Run a program, whose `main` returns its exit status. Every way out of it goes through here.

    `sweeps` are the keys of Hydra's own part, of a program that has -m: jobs in processes of their own, which leave a
    run directory each.
    """
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig

    process.before_torch()
    composition.program = config_name
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come to us, who know how to say them
    register_resolvers(section, sweeps)
    sys.argv[1:] = [command_line.as_it_stands(word, section) for word in sys.argv[1:]]
    ahead: look_ahead.Ahead[C] | None = None

    def composed(config: DictConfig) -> None:
        if ahead and (ahead.run or ahead.data == composition.plain(config)):
            checked = ahead.config
        else:
            checked = schema.parse(composition.plain(config), section)
        asked = Asked(checked, tuple(HydraConfig.get().overrides.task), ahead.own if ahead else ())
        run(lambda: main(asked))

    composed.__module__ = f"cleangpt.{config_name}"  # by which Hydra names the program
    try:
        arguments = command_line.options(get_args_parser(), sys.argv[1:], section)
        asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info
        composition.own, sys.argv[1:] = arguments.config_dir, arguments.words  # for Hydra, which reads them after us
        streams.settle(goes_on=sweeps is not None and not asks)
        if arguments.multirun and sweeps is None:
            raise UserError(f"`{verbs.shown(config_name)}` has no sweeps (-m): start it once for each value")
        if arguments.multirun:
            process.refuse_several("sweeps need")
        if arguments.multirun and _rank() is not None:
            words = [word for word in sys.argv if word not in ("-m", "--multirun")]
            line = shlex.join(["-m", *words[1:], f"processes={os.environ.get('WORLD_SIZE', 1)}"])
            raise UserError(
                "a sweep starts the processes of its jobs itself: "
                f"run `{verbs.shown(config_name)} {line}` without torchrun"
            )
        if not (asks or arguments.shell_completion):
            ahead = look_ahead.check(arguments, section, config_name, sweeps)
        if ahead and ahead.run:
            ahead.run(composed)
        else:
            hydra.main(config_path=CONF, config_name=config_name, **composition.base())(composed)()
    except UserError as error:
        leave(error)
    except Exception as error:
        if sentence := composition.composition_mistake(error):
            leave(ConfigError([sentence]))
        if isinstance(error, OSError) and error.filename is not None:
            leave(unusable(error))
        raise
    finally:
        sys.stdout.flush()  # while it can still be said that this fails


def unusable(error: OSError) -> UserError:
    return UserError(f"{error.filename} can't be used ({error.strerror}): choose another place")


def leave(error: UserError) -> NoReturn:
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


def run(action: Callable[[], int]) -> NoReturn:
    """Run what a program is for and exit with its status; what fails is shown in full and exits with 1."""
    status: int | UserError | None

    def answer() -> int | UserError:
        try:
            return action()
        except UserError as error:
            return error  # no failure that torchrun would show with its traceback

    try:
        answers: Callable[[], int | UserError | None] = answer
        if _rank() is not None:
            patience.load_torch()
            from torch.distributed.elastic.multiprocessing.errors import record

            answers = record(answer)  # lets torchrun name the root cause
        with beginning.unwinding():
            status = answers()
        if isinstance(status, UserError):
            leave(status)  # here, where Hydra does not put a line before it
    except Exception as error:
        status = FAILED
        where = "" if _rank() is None else f"rank {_rank()}: "
        patience.started()
        sys.stderr.write(where + visible(files.full_disk(error) or traceback.format_exc()))
    sys.stdout.flush()
    sys.exit(status)


def _rank() -> int | None:
    """Read the global rank, where a launcher gave one."""
    return int(os.environ["RANK"]) if "RANK" in os.environ else None


def register_resolvers(section: type[Section], sweeps: Sweeps | None = None, stamp: str = STAMP) -> None:
    """Define what stands for ${run_name:…}, ${help_keys:} and the like in conf/."""
    resolvers: dict[str, Callable[..., str]]
    resolvers = {"run_name": _run_name, "run_stamp": lambda: stamp, "help_sweep": _help("sweep", sweeps)}
    resolvers |= {f"help_{part}": _help(part, section) for part in ("groups", "keys")}
    resolvers |= {"shown": verbs.shown, "shown_by_torchrun": verbs.shown_by_torchrun, "completed": verbs.completed}
    of_today = omegaconf.__version__.startswith("2.3")  # 2.4 has another name for it
    register: Any = OmegaConf.register_new_resolver if of_today else OmegaConf.register_resolver
    for name, resolver in resolvers.items():
        register(name, resolver, replace=True)


def _run_name(experiment: str | None, dataset: str, model: str) -> str:
    """Name the folder of a run below outputs/: its experiment, or what it trains on what."""
    return str(experiment or f"{dataset}-{model}").replace("/", "-")


def _help(part: str, about: type[Section] | Sweeps | None) -> Callable[..., str]:
    def words(*, _root_: DictConfig) -> str:
        from cleangpt.config import program_help

        return getattr(program_help, part)(about, _root_)

    return words
