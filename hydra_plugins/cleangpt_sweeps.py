"""What Hydra finds: two launchers and a sweeper, each of which passes on to cleangpt/sweeps/.

Every program that uses Hydra imports this file, `--help` included: nothing heavy may be imported at its head.
`hydra_plugins` is a namespace package, and must have no __init__.py. The values of the keys are in conf/hydra/.
"""

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class JobLauncher(Launcher):
    """Starts each job of a sweep in processes of its own: here, or through submitit."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list:
        from cleangpt.sweeps.loop import grid

        if status := grid(self.loader, self.config, job_overrides):
            sys.exit(status)
        return []


class OptunaSweeper(Sweeper):
    """Searches for good values with optuna; its trials are jobs like any others."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def sweep(self, arguments: list[str]) -> None:
        from cleangpt.sweeps.loop import search

        if status := search(self.loader, self.config, arguments):
            sys.exit(status)


for group, name, plugin in (
    ("hydra/launcher", "cleangpt_launcher", JobLauncher),
    ("hydra/sweeper", "cleangpt_optuna", OptunaSweeper),
):
    ConfigStore.instance().store(
        group=group, name=name, node={"_target_": f"{__name__}.{plugin.__name__}"}, provider="cleangpt"
    )
