"""Turn a trained model into a folder that others open, and others' models into folders that we open.

python export.py run=latest format=hf out=mine
python export.py run=openai-community/gpt2 format=cleangpt out=gpt2
"""

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import ExportConfig


def main(asked: Asked[ExportConfig]) -> int:
    from cleangpt.hf import run

    return run.export(asked.config)


if __name__ == "__main__":
    cli.start(main, ExportConfig, "export")  # a shell that completes looks for @hydra.main
