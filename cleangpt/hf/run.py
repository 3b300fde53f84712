"""Run one command of export.py: a model of ours becomes a folder for others, or one of theirs becomes ours."""

from pathlib import Path

from cleangpt.basics import verbs
from cleangpt.basics.shown import visible
from cleangpt.basics.words import counted
from cleangpt.config.programs import ExportConfig
from cleangpt.disk.rundir import find, refuse_links_outside
from cleangpt.terminal import patience


def export(settings: ExportConfig) -> int:
    patience.load_torch()
    from cleangpt.hf import folder

    def say(words: str) -> None:
        print(visible(words))

    if settings.format == "cleangpt":
        out = Path(settings.out or Path("outputs") / Path(settings.run.partition("@")[0]).name)
        with patience.doing(f"Copying the weights to {out}"):
            model = folder.import_folder(settings.run, out)
        layers = counted(model.n_layer, "layer")
        say(f"The weights of {settings.run}, a {model.name} of {layers}, are in {out}. Next:")
        say(f"    {verbs.shown('score')} run={out} suite=lm-eval tasks=lambada_openai")
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
