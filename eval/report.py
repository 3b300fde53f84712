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

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import ReportConfig


def main(asked: Asked[ReportConfig]) -> int:
    from cleangpt.report import run

    return run.report(asked.config)


if __name__ == "__main__":
    cli.start(main, ReportConfig, "report")  # a shell that completes looks for @hydra.main
