"""Have Hydra pass what `-m` asks for on to cleangpt/sweeps/.

Every program that uses Hydra imports this file, `--help` included: nothing heavy may be imported at its head.
`hydra_plugins` is a namespace package, and must have no __init__.py. The values of the keys are in conf/hydra/:
the sweeper reads those of hydra.launcher too, and starts the jobs itself.
"""

import sys
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


class JobSweeper(Sweeper):
    """Runs each job of a sweep, or trial of a search, in processes of its own."""

    def __init__(self, **_settings: Any):
        """Ignore what Hydra passes here: it is read from the configuration, where it is checked."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def sweep(self, arguments: list[str]) -> None:
        from cleangpt.sweeps import loop

        if status := loop.sweep(self.loader, self.config, arguments):
            sys.exit(status)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="cleangpt_sweeps",
    node={"_target_": f"{__name__}.{JobSweeper.__name__}"},
    provider="cleangpt",
)
