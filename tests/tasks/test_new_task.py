"""docs/new_task.md shows a task as it is, and its commands run."""

import re
import shlex

import pytest
from started.programs import ROOT, run_program

TEXT = (ROOT / "docs" / "new_task.md").read_text()
BRIEF = "model=llama_tiny train.steps=4 train.batch_size=8 logger=quiet device=cpu"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def lines(code: str) -> str:
    """Code without blank lines and indentation: a block stands in a page as if it stood alone."""
    return "".join(f"{line.strip()}\n" for line in code.splitlines() if line.strip())


def test_the_code_is_that_of_the_file_and_all_of_its_class():
    source = lines((ROOT / "cleangpt" / "tasks" / "copy.py").read_text())
    shown = [lines(block) for block in blocks("python")]
    assert len(shown) >= 5
    for block in shown:
        assert block in source
    places = [source.index(block) for block in shown]
    assert places == sorted(places)
    assert source.partition("class Task")[2] == "".join(shown).partition("class Task")[2]
    assert blocks("yaml") == [(ROOT / "conf" / "dataset" / "copy.yaml").read_text()]


def test_the_files_that_it_names_are_there():
    named = re.findall(r"\]\(\.\./([\w/.]+)\)", TEXT)
    assert named
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.slow
def test_its_commands_run_one_after_the_other(tmp_path):
    for command in "".join(blocks("bash")).strip().splitlines():
        _, script, *arguments = shlex.split(command)
        small = BRIEF.split() if script == "train.py" else ["device=cpu"] if "report" not in script else []
        done = run_program(script, *arguments, *small, cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if "prompt=abba" in arguments:
            assert re.fullmatch(r"abba = \S* (✓|✗ it is abba)\n", done.stdout)
        if script == "eval/score.py":
            assert "By length" in done.stdout
            assert (tmp_path / "outputs" / "copy" / "score" / "val_best_slices.png").exists()
    page = (tmp_path / "outputs" / "sweeps" / "copy" / "report" / "report.html").read_text()
    assert "dataset.letters" in page
