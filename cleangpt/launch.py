"""How a training starts: which run directory, whether it continues one, and in how many processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cleangpt import cli, resuming
from cleangpt.config import Config, parse
from cleangpt.errors import ConfigError, UserError
from cleangpt.rundir import RunDir


def train(data: dict[str, Any], began: float) -> None:
    hydra = HydraConfig.get()
    proposed, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        return _job_of_a_sweep(proposed, overrides)
    try:
        run, config, resume = _decide(parse(data), proposed, overrides)
        if run.path != proposed:
            _remove_if_empty(proposed)
        processes = _processes(config)
        if processes > 1:
            _torchrun(processes, proposed)
        _can_compute(config)
    except UserError as error:
        _remove_if_empty(proposed)
        cli.leave(error)

    def action() -> int:
        from cleangpt import training  # torch comes in here

        try:
            return training.train(config, run, overrides, resume, began)
        except UserError:
            _remove_if_empty(run.path)
            raise

    cli.run(action)


def _decide(config: Config, proposed: Path, overrides: list[str]) -> tuple[RunDir, Config, Path | None]:
    """Run directory, configuration and what to resume: rank 0 decides, and needs to be the only one with the disk."""
    if "RANK" not in os.environ:
        return resuming.decide(config, RunDir(proposed), overrides, restarted=False)

    from cleangpt import distributed

    agreed = Path(distributed.agree("run directory", str(proposed)))

    def say() -> str:
        run, decided, resume = resuming.decide(config, RunDir(agreed), overrides, distributed.happened("begun"))
        distributed.note("begun")
        return json.dumps([str(run.path), decided.model_dump(mode="json"), resume and str(resume)])

    path, decided, resume = json.loads(distributed.told_by_main("decision", say))
    return RunDir(Path(path)), parse(decided), resume and Path(resume)


def _can_compute(config: Config) -> None:
    """A stored configuration may ask for a device that this machine lacks."""
    if config.device in ("cuda", "mps"):
        from cleangpt import device

        if wrong := device.mistakes(config.device):
            raise ConfigError(wrong)


def _job_of_a_sweep(folder: Path, overrides: list[str]) -> None:
    """Each job of a sweep runs in fresh processes, so that nothing leaks from one into the next.

    They are a session of their own: what asks the sweep to stop is passed on to the job, which saves and leaves.
    """
    there = f"hydra.run.dir={_quoted(folder)}"
    command = [sys.executable, sys.argv[0], *_hydra_flags(), *overrides, "hydra.mode=RUN", there]
    job = subprocess.Popen(command, start_new_session=True)
    asked = []

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    status = job.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if asked or status < 0 or status > 128:
        sys.exit(128 + (asked[0] if asked else -status if status < 0 else status - 128))  # and the sweep with it
    if status:
        raise UserError(f"the job in {folder} ended with status {status}: its train.log says why")


def _quoted(path: Path) -> str:
    """A path as a value of Hydra's, whatever its characters."""
    return "'" + str(path).replace("'", "\\'") + "'"


def _hydra_flags() -> list[str]:
    """The flags of this command line that say where configuration lies: --config-dir=…, -cd …"""
    names = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
    words = sys.argv[1:]
    found = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word in names:
            found += [word, after]
        elif word.partition("=")[0] in names:
            found.append(word)
    return found


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
    arguments = sys.argv[1:]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        arguments = [*arguments, f"hydra.run.dir={_quoted(folder)}"]
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
