"""Start a training: in which run directory, whether it continues one, and in how many processes."""

import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.words import counted
from cleangpt.config import cli, command_line
from cleangpt.config.asked import Asked
from cleangpt.config.experiment import Config, parse
from cleangpt.disk import claim
from cleangpt.disk.rundir import RunDir
from cleangpt.machine import beginning, cores, guard, process
from cleangpt.terminal import patience
from cleangpt.training import resuming

PROCESSES_A_CORE = 8  # more only wait for each other


def train(asked: Asked[Config], began: float) -> int:
    """Find out what this command line means, and do it; the exit status."""
    hydra = HydraConfig.get()
    assert hydra.mode == RunMode.RUN, "the jobs of a sweep are started by hydra_plugins/cleangpt_sweeps.py"
    proposed = Path(hydra.runtime.output_dir)
    run = RunDir(proposed)
    beginning.take_back(lambda: _remove_if_empty(proposed))
    with contextlib.ExitStack() as claimed:
        try:
            run, asked, resume = _decide(asked, proposed, claimed)
            if run.path != proposed:
                _remove_if_empty(proposed)
            processes = _processes(asked.config)
            if processes > 1:
                claimed.close()  # the first of them takes the directory, and looks again
                return _torchrun(processes, proposed)
            _can_compute(asked.config)
            patience.load_torch()
            with patience.doing("Loading the rest"):
                from cleangpt.training import whole

            return whole.train(asked, run, resume, began)
        except UserError:
            claimed.close()
            for folder in (run.path, proposed):
                _remove_if_empty(folder)
            raise


def _decide(asked: Asked[Config], proposed: Path, claimed: contextlib.ExitStack) -> resuming.Decision:
    """Decide on run directory, configuration and what to resume: rank 0 does, and may be the only one with the disk.

    The run directory is claimed before it is looked at.
    """

    def decide(proposed: RunDir, restarted: bool) -> resuming.Decision:
        try:
            run = resuming.directory(asked.config, proposed)
            claimed.enter_context(claim.alone_in(run, waits=asked.config.resume is not None or restarted))
            return resuming.decide(asked, proposed, restarted)
        except OSError as error:
            raise error if error.filename is None else cli.unusable(error) from None

    if "RANK" not in os.environ:
        return decide(RunDir(proposed), restarted=False)

    from cleangpt.machine import launcher

    agreed = RunDir(Path(launcher.agree("run directory", str(proposed))))

    def say() -> str:
        run, decided, resume = decide(agreed, launcher.happened("begun"))
        launcher.note("begun")
        return json.dumps([str(run.path), decided.config.model_dump(mode="json"), resume and str(resume)])

    path, decided, resume = json.loads(launcher.broadcast_from_rank0("decision", say))
    return RunDir(Path(path)), replace(asked, config=parse(decided)), resume and Path(resume)


def _can_compute(config: Config) -> None:
    """Refuse a device that this machine lacks, for which a stored configuration may ask."""
    if config.device in ("cuda", "mps"):
        from cleangpt.machine import device

        if wrong := device.mistakes(config.device):
            raise ConfigError(wrong)


def _processes(config: Config) -> int:
    """Count the processes to start; 1 where this one is enough, or is one of several already."""
    if "WORLD_SIZE" in os.environ:
        launched = int(os.environ["WORLD_SIZE"])
        if config.processes not in ("auto", launched):
            raise UserError(
                f"`processes` is {config.processes}, but the launcher started {launched}: set processes=auto "
                "under torchrun"
            )
        return 1
    if config.processes not in ("auto", 1):
        process.refuse_several(f"processes={config.processes} needs")
    if config.processes != "auto":
        count = os.cpu_count() or 1
        if config.processes > (most := PROCESSES_A_CORE * count):
            here = f"this machine has {counted(count, 'core')}"
            raise UserError(f"`processes` is {config.processes}, and {here}: start at most {most}")
        return config.processes
    if config.device in ("auto", "cuda") and hasattr(os, "setsid"):
        patience.load_torch()
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def _torchrun(processes: int, folder: Path) -> int:
    """Run this command again in several processes, as torchrun would; their exit status."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    patience.started()
    print(f"Starting {processes} processes (processes=1 keeps to one).", flush=True)
    os.environ |= verbs.environment(guard.announced(os.environ))
    os.environ.setdefault("OMP_NUM_THREADS", str(cores.share(processes)))
    arguments = sys.argv[1:]
    if not any(command_line.split(word)[0] == "hydra.run.dir" for word in arguments):
        arguments = [*arguments, f"hydra.run.dir={command_line.quoted(folder)}"]
    how = ["--standalone", f"--nproc-per-node={processes}", "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]
    try:
        torchrun.main([*how, *verbs.command("train")[1:], *arguments])
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:  # the process that failed has said why
        return failed.get_first_failure()[1].exitcode if failed.failures else cli.FAILED
    return 0


def _remove_if_empty(folder: Path) -> None:
    """Take back a run directory that Hydra made for nothing, and the folder around it, unless somebody is in there."""
    with contextlib.suppress(OSError):
        (folder / files.LOCK).unlink(missing_ok=True)
        folder.rmdir()
        if not Path.cwd().is_relative_to(folder.parent):
            folder.parent.rmdir()
