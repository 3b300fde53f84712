"""docs/new_optimizer.md as it stands: its optimizer is found in an installed package, trains, and resumes exactly."""

import re
import shlex

from safetensors.torch import load_file
from started.programs import ROOT, on_path, run_program

PAGE = (ROOT / "docs" / "new_optimizer.md").read_text()
SMALL = "model.n_layer=1 model.n_embd=16 dataset.digits=1 train.batch_size=8 logger=quiet device=cpu train.log_every=1"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def install(folder):
    for block in (*blocks("python"), blocks("yaml")[0]):
        path = folder / block.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True)
        path.write_text(block)
    (folder / "my_optimizers" / "__init__.py").touch()
    about = folder / "my_optimizers-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-optimizers\nVersion: 1.0\n")
    group, entry = blocks("toml")[0].splitlines()
    (about / "entry_points.txt").write_text("[" + group.split('"')[1] + "]\n" + entry.replace('"', "") + "\n")


def test_the_page_can_be_followed(tmp_path):
    install(tmp_path)
    (command,) = "".join(blocks("bash")).strip().splitlines()
    script, *words = shlex.split(command)[1:]
    words = [word for word in words if not word.startswith("train.steps")]

    def run(*more):
        done = run_program(script, *more, cwd=tmp_path, env=on_path(tmp_path))
        assert done.returncode == 0, done.stderr

    common = (*words, *SMALL.split(), "schedule.steps=6")
    run(*common, "train.steps=6", "hydra.run.dir=whole")
    run(*common, "train.steps=3", "hydra.run.dir=parts")
    run("resume=parts", "train.steps=6")
    whole, parts = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts"))
    assert all((whole[name] == parts[name]).all() for name in whole)
    losses = re.findall(r"loss ([\d.]+)", (tmp_path / "whole" / "train.log").read_text())
    assert float(losses[-1]) < float(losses[0])


def test_the_schedule_of_the_page_is_the_one_in_conf():
    assert blocks("yaml")[1] == (ROOT / "conf" / "schedule" / "linear.yaml").read_text()
