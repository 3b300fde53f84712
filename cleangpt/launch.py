"""How a training starts: which run directory, whether it continues one, and in how many processes."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cleangpt import cli, resuming
from cleangpt.config import Config, parse
from cleangpt.errors import UserError
from cleangpt.rundir import RunDir


def train(data: dict[str, Any], began: float) -> None:
    hydra = HydraConfig.get()
    proposed, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        return _job_of_a_sweep(proposed, overrides)
    try:
        config = parse(data)
        processes = _processes(config)
        if processes > 1:
            _torchrun(processes, proposed)

        from cleangpt import distributed, training  # torch comes in here

        agreed = Path(distributed.agree("run directory", str(proposed)))
        if agreed != proposed:
            _remove_if_empty(proposed)
        run, config, resume = resuming.decide(config, RunDir(agreed), overrides)
        if run.path != agreed:
            _remove_if_empty(agreed)
    except UserError as error:
        _remove_if_empty(proposed)
        cli.leave(error)
    cli.run(lambda: training.train(config, run, overrides, resume, began))


def _job_of_a_sweep(folder: Path, overrides: list[str]) -> None:
    """Each job of a sweep runs in a fresh process, so that nothing leaks from one into the next."""
    command = [sys.executable, sys.argv[0], *overrides, "hydra.mode=RUN", f"hydra.run.dir={folder}"]
    status = subprocess.run(command).returncode
    if status > 128 or status < 0:
        sys.exit(status if status > 0 else 128 - status)  # it was stopped: stop the sweep as well
    if status:
        raise UserError(f"the job in {folder} ended with status {status}: its train.log says why")


def _processes(config: Config) -> int:
    """How many processes to start; 1 where this one is enough, or is one of several already."""
    if "WORLD_SIZE" in os.environ:
        launched = int(os.environ["WORLD_SIZE"])
        if config.processes not in ("auto", launched):
            raise UserError(
                f"`processes` is {config.processes}, but the launcher started {launched}: leave processes out "
                "under torchrun"
            )
        return 1
    if config.processes != "auto":
        return config.processes
    if config.device in ("auto", "cuda"):
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def _torchrun(processes: int, folder: Path) -> None:
    """Run this command again in several processes, as torchrun would, and exit with their status."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from cleangpt import device

    print(f"Starting {processes} processes (processes=1 keeps to one).", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(device.share_of_cores(processes)))
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("processes=")]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        arguments.append(f"hydra.run.dir={folder}")
    how = ["--standalone", f"--nproc-per-node={processes}", "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]
    try:
        torchrun.main([*how, sys.argv[0], *arguments])
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:  # the process that failed has said why
        sys.exit(failed.get_first_failure()[1].exitcode if failed.failures else cli.FAILED)
    sys.exit(0)


def _remove_if_empty(folder: Path) -> None:
    """Take back a run directory that Hydra made for nothing, and the folder around it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
