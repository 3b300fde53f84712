"""Compare runs: tables, statistics over seeds, pictures, and one page that holds it all.

python eval/report.py runs=outputs/sweeps
python eval/report.py runs=[outputs/adder-llama,outputs/adder-gpt] metric=val/loss out=comparison
python eval/report.py 'runs="outputs/*/2026-*"'
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import patience

if __name__ == "__main__":
    patience.starting()

import hydra
from omegaconf import DictConfig

from cleangpt import cli, schema
from cleangpt.config import ReportConfig


@hydra.main(version_base=None, config_path=cli.CONF, config_name="report")
def main(config: DictConfig) -> None:
    cli.run(lambda: report(schema.parse(cli.plain(config), ReportConfig)))


def report(settings: ReportConfig) -> int:
    from cleangpt.console import Console

    with patience.doing("Loading numpy and matplotlib"):
        from cleangpt.report import collect, write
        from cleangpt.report.compare import compare

    with patience.doing("Looking for runs"):
        paths = collect.find(settings.runs)
    out = write.folder_for(paths, settings.out)
    with patience.doing("Reading", len(paths), "runs") as progress:
        runs = collect.read(paths, progress.advance)
    with patience.doing("Comparing the runs"):
        found = compare(runs, settings.metric)
    with patience.doing("Drawing the pictures"):
        made = write.write(found, out, settings.title)
    console = Console(highlight=False, soft_wrap=True)
    for what in write.spoken(found):
        console.print(what, markup=not isinstance(what, str))
    console.print("Written:", markup=False)
    for path in made:
        console.print(f"    {path}", markup=False)
    return 0


if __name__ == "__main__":
    cli.start(main, ReportConfig, "report")
