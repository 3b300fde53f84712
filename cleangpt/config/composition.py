"""Compose conf/ by Hydra: as plain data, or in a sentence on what could not be composed."""

import copy
import functools
from pathlib import Path
from typing import Any, Protocol

from omegaconf import Container, OmegaConf

PACKAGE = Path(__file__).resolve().parents[1]
# A wheel has it inside of the package, a checkout beside it.
CONF = str(next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir()))
program = "train"  # the one that runs: only it has the groups in the folder of its name in conf/
own: str | None = None  # the folder of the user's own whose files come before ours (hydra_plugins/cleangpt_own.py)


class Sweeps(Protocol):
    """The things to be known here about hydra.launcher and hydra.sweeper."""

    def mistakes(self, hydra: dict[str, Any]) -> list[str]:
        """Say what is wrong with them, a sentence each."""

    def help_keys(self) -> dict[str, Any]:
        """List the keys that --help explains, with their fields."""


def base() -> dict[str, None]:
    """Say which of Hydra's habits are meant, to a Hydra that asks: those of 1.3, and none that are older."""
    import hydra

    return {"version_base": None} if hydra.__version__.startswith("1.3") else {}


def plain(config: Container) -> Any:
    """Make plain data of what was composed; past this point there is no DictConfig."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


def defaults(config_name: str, *choices: str) -> dict[str, Any]:
    """Compose our conf/ with nothing but these choices of groups, also while Hydra runs a program."""
    return copy.deepcopy(_defaults(CONF, config_name, choices))


@functools.cache
def _defaults(conf: str, config_name: str, choices: tuple[str, ...]) -> dict[str, Any]:
    global own
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    theirs, own = own, None
    try:
        with initialize_config_dir(conf, job_name=config_name, **base()):
            return plain(compose(config_name, list(choices)))
    finally:
        GlobalHydra.instance().hydra, own = running, theirs


def composition_mistake(error: Exception) -> str | None:
    """Say in a sentence what Hydra or OmegaConf could not compose; None for any other exception."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "the configuration can't be composed: " + " ".join(lines).partition(" Config search path")[0]
