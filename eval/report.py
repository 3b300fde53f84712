"""Compare runs: tables, statistics over seeds, pictures, and one page that holds it all.

python eval/report.py runs=outputs/sweeps
python eval/report.py runs=[outputs/adder-llama,outputs/adder-gpt] metric=val/loss out=comparison
python eval/report.py 'runs="outputs/*/2026-*"'
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

import hydra
from omegaconf import DictConfig

from cleangpt.basics import schema
from cleangpt.config import cli, composition
from cleangpt.config.programs import ReportConfig
from cleangpt.terminal import patience


@hydra.main(version_base=None, config_path=composition.CONF, config_name="report")
def main(config: DictConfig) -> None:
    cli.run(lambda: report(schema.parse(composition.plain(config), ReportConfig)))


def report(settings: ReportConfig) -> int:
    from cleangpt.terminal import console

    with patience.doing("Loading numpy and matplotlib"):
        from cleangpt.report import collect, write
        from cleangpt.report.compare import compare

    with patience.doing("Looking for runs"):
        paths = collect.find(settings.runs)
    out = write.folder_for(paths, settings.out)
    with patience.doing("Reading", len(paths), "runs") as progress:
        runs = collect.read(paths, progress.advance, settings.curves)
    with patience.doing("Comparing the runs"):
        found = compare(runs, settings.metric, settings.curves)
    with patience.doing("Drawing the pictures"):
        made = write.write(found, out, settings.title)
    shown = console.for_tables()
    for what in write.spoken(found):  # sentences are broken between words, on a terminal
        shown.print(what, markup=not isinstance(what, str), soft_wrap=not shown.is_terminal)
    shown.print("Written:", markup=False)
    for path in made:
        shown.print(f"    {path}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    cli.start(main, ReportConfig, "report")
