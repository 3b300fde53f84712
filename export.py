"""A trained model as a folder that others open, and others' models as folders that we open.

python export.py run=latest format=hf out=mine
python export.py run=openai-community/gpt2 format=cleangpt out=gpt2
"""

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

import hydra
from omegaconf import DictConfig

from cleangpt.basics import schema
from cleangpt.basics.words import counted
from cleangpt.config import cli, composition
from cleangpt.config.programs import ExportConfig
from cleangpt.terminal import patience


@hydra.main(version_base=None, config_path=composition.CONF, config_name="export")
def main(config: DictConfig) -> None:
    cli.run(lambda: export(schema.parse(composition.plain(config), ExportConfig)))


def export(settings: ExportConfig) -> int:
    from pathlib import Path

    patience.load_torch()
    from cleangpt.basics.shown import visible
    from cleangpt.hf import folder
    from cleangpt.runs.rundir import find, refuse_links_outside

    def say(words: str) -> None:
        print(visible(words))

    if settings.format == "cleangpt":
        out = Path(settings.out or Path("outputs") / Path(settings.run.partition("@")[0]).name)
        with patience.doing(f"Copying the weights to {out}"):
            model = folder.import_folder(settings.run, out)
        layers = counted(model.n_layer, "layer")
        say(f"The weights of {settings.run}, a {model.name} of {layers}, are in {out}. Next:")
        say(f"    python eval/score.py run={out} suite=lm-eval tasks=lambada_openai")
        return 0
    opened = find(settings.run)
    around = opened.run.path if opened.run else opened.folder
    if not settings.out:
        refuse_links_outside(around)
    out = Path(settings.out) if settings.out else around / "hf"
    with patience.doing(f"Copying the weights to {out}"):
        about = folder.export_folder(opened.folder, out, settings.dtype)
    say(f"{opened.folder}: a {about['architectures'][0]} in {settings.dtype}, with its tokenizer, is in {out}. Next:")
    say(f'    python -c \'from transformers import pipeline; print(pipeline("text-generation", "{out}")("…"))\'')
    return 0


if __name__ == "__main__":
    cli.start(main, ExportConfig, "export")
