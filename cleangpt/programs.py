"""The programs: what each is called, which keys it has and what it does. They load what they need as they start.

`cleangpt train`, `python -m cleangpt train` and, in a checkout, `python train.py` come here.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import cleangpt
from cleangpt.machine import beginning

if TYPE_CHECKING:
    from cleangpt.config.asked import Asked
    from cleangpt.config.experiment import Config
    from cleangpt.config.programs import (
        BenchConfig,
        ExportConfig,
        PrepareConfig,
        ReportConfig,
        RunsConfig,
        SampleConfig,
        ScoreConfig,
        ServeConfig,
        UiConfig,
    )


def train() -> None:
    """Train a model."""
    began = time.monotonic()
    beginning.program()
    from cleangpt.config import cli, experiment
    from cleangpt.sweeps import settings

    def main(asked: "Asked[Config]") -> int:
        from cleangpt.training import launch

        return launch.train(asked, began)

    cli.start(main, experiment.Config, "train", sweeps=settings)


def sample() -> None:
    """Write text by a trained model, or talk to it."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[SampleConfig]") -> int:
        from cleangpt.sample import run

        return run.sample(asked.config)

    cli.start(main, programs.SampleConfig, "sample")


def serve() -> None:
    """Put a model behind an address, in OpenAI's form."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[ServeConfig]") -> int:
        from cleangpt.serving import run

        return run.serve(asked.config)

    cli.start(main, programs.ServeConfig, "serve")


def score() -> None:
    """Score a trained model on problems that it never saw."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[ScoreConfig]") -> int:
        from cleangpt.score import run

        return run.score(asked.config)

    cli.start(main, programs.ScoreConfig, "score")


def report() -> None:
    """Compare runs."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[ReportConfig]") -> int:
        from cleangpt.report import run

        return run.report(asked.config)

    cli.start(main, programs.ReportConfig, "report")


def runs() -> None:
    """List runs: which are trained, which have ended and how."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[RunsConfig]") -> int:
        from cleangpt.follow import listing

        return listing.runs(asked.config)

    cli.start(main, programs.RunsConfig, "runs")


def ui() -> None:
    """Open a page in the browser over runs."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[UiConfig]") -> int:
        from cleangpt.ui import run

        return run.ui(asked.config)

    cli.start(main, programs.UiConfig, "ui")


def export() -> None:
    """Turn a model into a folder that others open, or theirs into ours."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[ExportConfig]") -> int:
        from cleangpt.hf import run

        return run.export(asked.config)

    cli.start(main, programs.ExportConfig, "export")


def prepare() -> None:
    """Prepare text for training."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[PrepareConfig]") -> int:
        from cleangpt.corpus import report

        return report.prepare(asked.config.dataset, asked.config.workers, asked.config.force)

    cli.start(main, programs.PrepareConfig, "prepare")


def bench() -> None:
    """Measure how fast a configuration trains, decodes or scores."""
    beginning.program()
    from cleangpt.config import cli, programs

    def main(asked: "Asked[BenchConfig]") -> int:
        from cleangpt.measure import bench

        return bench.run(asked)

    cli.start(main, programs.BenchConfig, "bench")


PROGRAMS: dict[str, Callable[[], None]] = {
    program.__name__: program for program in (train, sample, ui, serve, score, report, runs, export, prepare, bench)
}


def run() -> NoReturn:
    """Run the program that the first word of the command line names."""
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if first in ("--help", "-h"):
        print(_help(), flush=True)
        sys.exit(0)
    if first == "--version":
        print(cleangpt.__version__, flush=True)
        sys.exit(0)
    if first in ("-sc", "--shell-completion", "--shell_completion"):
        _complete()
    elif first in PROGRAMS:
        del sys.argv[1]
        PROGRAMS[first]()
    else:
        from cleangpt.basics.schema import nearest

        guess = nearest(first, list(PROGRAMS))
        meant = f"did you mean `{guess}`? There are" if guess else "there are"
        sys.stderr.write(f"`{first}` is no program: {meant} {', '.join(PROGRAMS)}\n")
        sys.exit(2)
    sys.exit(0)


def _help() -> str:
    width = max(map(len, PROGRAMS))
    lines = [f"  {verb:{width}}  {(program.__doc__ or '').rstrip('.')}" for verb, program in PROGRAMS.items()]
    return "\n".join(
        [
            f"CleanGPT {cleangpt.__version__}: experiments with small and medium GPTs",
            "",
            "  cleangpt <program> [key=value]",
            "  cleangpt <program> --help",
            "",
            *lines,
            "",
            'Tab completion:  eval "$(cleangpt -sc install=bash)"  (also zsh and fish)',
        ]
    )


def _complete() -> None:
    """Complete the verb, or have its program complete what follows: a shell asks the command, whatever its verb."""
    line = os.environ.get("COMP_LINE", "")
    name, _, rest = line.lstrip().partition(" ")
    verb, space, words = rest.lstrip().partition(" ")
    if not line:  # to be installed
        if not re.fullmatch(r"(un)?install=(bash|zsh|fish)", "".join(sys.argv[2:3])):
            sys.stderr.write("write -sc install=bash, or zsh, or fish\n")
            sys.exit(2)
        return train()
    if space and verb in PROGRAMS:
        os.environ["COMP_LINE"] = f"{name} {words}"
        return PROGRAMS[verb]()
    if not space:
        print(" ".join(known for known in PROGRAMS if known.startswith(verb)))
