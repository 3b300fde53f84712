"""docs/new_model.md tells of a file that is there, and a model may come from a package of somebody else."""

import re

import pytest
from started.programs import ROOT, on_path, run_program

PAGE, FILE = ROOT / "docs" / "new_model.md", ROOT / "cleangpt" / "models" / "lstm.py"
SMALL = "model.n_layer=1 model.n_embd=16 dataset.digits=1 train.batch_size=8 train.steps=2 logger=quiet device=cpu"
BRIEF = "rounds=1 seconds=0.02 startup=false train.batch_size=8"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def lines(code):
    """Strip indentation and blank lines: a piece of a class stands in the page as if it stood alone."""
    return "".join(f"{line.strip()}\n" for line in code.splitlines() if line.strip())


def test_every_piece_of_code_stands_in_the_file():
    assert len(blocks("python")) > 5
    for block in blocks("python"):
        assert lines(block) in lines(FILE.read_text())
    (keys,) = blocks("yaml")
    assert (ROOT / "conf" / "model" / "lstm.yaml").read_text().endswith(keys)


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    for command in "".join(blocks("bash")).strip().splitlines():
        script, *words = command.split()[1:]
        small = {"train.py": SMALL, "bench.py": BRIEF}.get(script, "")
        done = run_program(script, *words, *small.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_nothing_else_knows_the_model():
    for path in (ROOT / "cleangpt").rglob("*.py"):
        if path not in (FILE, FILE.with_name("__init__.py")):  # the map of the room
            assert "lstm" not in path.read_text().lower(), path


def test_a_model_of_an_installed_package_is_one_like_ours(tmp_path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "my_model.py").write_text(FILE.read_text().replace('Literal["lstm"]', 'Literal["mine"]'))
    about = tmp_path / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    group, entry = toml.splitlines()
    (about / "entry_points.txt").write_text("[" + group.split('"')[1] + "]\n" + entry.replace('"', "") + "\n")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "mine.yaml").write_text(blocks("yaml")[0].replace("name: lstm", "name: mine"))
    here = {"cwd": tmp_path, "env": on_path(tmp_path)}
    for words in (
        ("train.py", "--config-dir=mine", "model=mine", *SMALL.split()),
        ("sample.py", "run=latest", "prompt=1+2", "device=cpu"),
        ("eval/score.py", "run=latest", "device=cpu"),
        ("train.py", "resume=latest", "train.steps=4"),
    ):
        done = run_program(*words, **here)
        assert done.returncode == 0, done.stderr
    without = run_program("sample.py", "run=latest", "prompt=1+2", cwd=tmp_path)
    assert without.returncode == 2
    assert "`model.name` must be one of" in without.stderr
