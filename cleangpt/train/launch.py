"""How a training starts: which run directory, whether it continues one, and in how many processes."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.words import counted
from cleangpt.config import cli
from cleangpt.config.experiment import Config, parse
from cleangpt.machine import beginning, guard
from cleangpt.runs import claim
from cleangpt.runs.rundir import RunDir
from cleangpt.terminal import patience
from cleangpt.train import resuming

PROCESSES_A_CORE = 8  # more only wait for each other


def train(data: dict[str, Any], began: float) -> None:
    hydra = HydraConfig.get()
    proposed, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    assert hydra.mode == RunMode.RUN, "the jobs of a sweep are started by hydra_plugins/cleangpt_sweeps.py"
    beginning.take_back(lambda: _remove_if_empty(proposed))
    with contextlib.ExitStack() as claimed:
        try:
            run, config, resume = _decide(parse(data), proposed, overrides, claimed)
            if run.path != proposed:
                _remove_if_empty(proposed)
            processes = _processes(config)
            if processes > 1:
                claimed.close()  # the first of them takes the directory, and looks again
                _torchrun(processes, proposed)
            _can_compute(config)
        except UserError as error:
            _remove_if_empty(proposed)
            cli.leave(error)

        def action() -> int:
            patience.load_torch()
            with patience.doing("Loading the rest"):
                from cleangpt.train import training

            try:
                return training.train(config, run, overrides, resume, began)
            except UserError:
                _remove_if_empty(run.path)
                raise

        cli.run(action)


def _decide(
    config: Config, proposed: Path, overrides: list[str], claimed: contextlib.ExitStack
) -> tuple[RunDir, Config, Path | None]:
    """Run directory, configuration and what to resume: rank 0 decides, and needs to be the only one with the disk.

    The run directory is claimed before it is looked at.
    """

    def decide(proposed: Path, restarted: bool) -> tuple[RunDir, Config, Path | None]:
        run = resuming.directory(config, RunDir(proposed))
        claimed.enter_context(claim.alone_in(run, waits=config.resume is not None or restarted))
        return resuming.decide(config, RunDir(proposed), overrides, restarted)

    if "RANK" not in os.environ:
        return decide(proposed, restarted=False)

    patience.load_torch()
    from cleangpt.machine import distributed

    agreed = Path(distributed.agree("run directory", str(proposed)))

    def say() -> str:
        run, decided, resume = decide(agreed, distributed.happened("begun"))
        distributed.note("begun")
        return json.dumps([str(run.path), decided.model_dump(mode="json"), resume and str(resume)])

    path, decided, resume = json.loads(distributed.broadcast_from_rank0("decision", say))
    return RunDir(Path(path)), parse(decided), resume and Path(resume)


def _can_compute(config: Config) -> None:
    """A stored configuration may ask for a device that this machine lacks."""
    if config.device in ("cuda", "mps"):
        from cleangpt.machine import device

        if wrong := device.mistakes(config.device):
            raise ConfigError(wrong)


def _processes(config: Config) -> int:
    """How many processes to start; 1 where this one is enough, or is one of several already."""
    if "WORLD_SIZE" in os.environ:
        launched = int(os.environ["WORLD_SIZE"])
        if config.processes not in ("auto", launched):
            raise UserError(
                f"`processes` is {config.processes}, but the launcher started {launched}: set processes=auto "
                "under torchrun"
            )
        return 1
    if config.processes != "auto":
        cores = os.cpu_count() or 1
        if config.processes > PROCESSES_A_CORE * cores:
            raise UserError(
                f"`processes` is {config.processes}, and this machine has {counted(cores, 'core')}: start at most "
                f"{PROCESSES_A_CORE * cores}"
            )
        return config.processes
    if config.device in ("auto", "cuda"):
        patience.load_torch()
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def _torchrun(processes: int, folder: Path) -> None:
    """Run this command again in several processes, as torchrun would, and exit with their status."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from cleangpt.machine import device

    patience.started()
    print(f"Starting {processes} processes (processes=1 keeps to one).", flush=True)
    os.environ |= guard.announced({})
    os.environ.setdefault("OMP_NUM_THREADS", str(device.share_of_cores(processes)))
    arguments = sys.argv[1:]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        arguments = [*arguments, f"hydra.run.dir={cli.quoted(folder)}"]
    how = ["--standalone", f"--nproc-per-node={processes}", "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]
    try:
        torchrun.main([*how, sys.argv[0], *arguments])
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:  # the process that failed has said why
        sys.exit(failed.get_first_failure()[1].exitcode if failed.failures else cli.FAILED)
    sys.exit(0)


def _remove_if_empty(folder: Path) -> None:
    """Take back a run directory that Hydra made for nothing, and the folder around it, unless somebody is in there."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        if not Path.cwd().is_relative_to(folder.parent):
            folder.parent.rmdir()
