"""The guide: every command is accepted and runs, links lead somewhere, generated pages are up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from started import pages
from started.programs import ROOT, environment

from cleangpt.basics import verbs
from docs import keys, pictures, recipes

# Those whose commands together take a few seconds; `make test-slow` runs all.
QUICK = ("resume.md", "sampling.md", "security.md", "decisions.md")
GUIDE = [page for page in pages.PAGES if page.name not in pages.BUILDING]


def title(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", GUIDE, ids=title)
def test_no_command_is_refused(tmp_path, monkeypatch, page):
    pages.lay_out(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    refused = {command: found for command in pages.of_programs(page) if (found := pages.mistakes(command))}
    assert refused == {}


def run_all(page: Path, folder: Path) -> None:
    pages.lay_out(page, folder)
    for command in pages.of_programs(page):
        pages.run(command, folder)


@pytest.mark.parametrize("page", [page for page in GUIDE if page.name in QUICK], ids=title)
def test_the_commands_run_one_after_the_other(tmp_path, page):
    run_all(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in GUIDE if page.name not in QUICK], ids=title)
def test_the_longer_commands_run_one_after_the_other(tmp_path, page):
    if re.search("dataset=shakespeare|experiment=shakespeare", "\n".join(pages.of_programs(page))):
        small_shakespeare(tmp_path)
    run_all(page, tmp_path)


def small_shakespeare(folder: Path) -> None:
    text = "".join(f"Line {n}: to be, or not to be, that is question {n * n}.\n" for n in range(400))
    (folder / "plays.txt").write_text(text)
    pages.run("python data/prepare.py dataset=shakespeare_char dataset.source=plays.txt", folder)


@pytest.mark.parametrize("page", GUIDE, ids=title)
def test_a_page_begins_with_a_command(page):
    if page.name == "README.md":
        return
    head, fence, _ = page.read_text(encoding="utf-8").partition("\n```")
    assert fence, page
    assert len(head.splitlines()) < 12


def test_the_guide_has_every_program():
    words = {word for page in GUIDE for command in pages.of_programs(page) for word in command.split()}
    assert {word for word in words if word.endswith(".py")} == set(verbs.SCRIPTS.values())
    assert {"cleangpt", "torchrun"} <= words


def test_the_reference_is_what_the_schema_says():
    assert keys.PAGE.read_text(encoding="utf-8") == keys.page(), "python docs/keys.py"


def test_the_reference_explains_every_key():
    page = keys.PAGE.read_text(encoding="utf-8")
    for verb, schema in keys.SCHEMAS.items():
        told = page.partition(f"## {keys.TITLES[verb]}\n")[2].partition("\n## ")[0]
        own = set(schema.model_fields) - (set(keys.Config.model_fields) if verb == "bench" else set())
        every = [key for key in keys.keys(schema) if key.partition(".")[0] in own and not key.endswith(".name")]
        if verb == "prepare":
            every = [key for key in every if key in keys.keys(schema, keys.composition.defaults(verb, "dataset=text"))]
        assert [key for key in every if f"| `{key}` |" not in told] == [], verb


def test_make_has_the_targets_that_are_named():
    makefile = (ROOT / "Makefile").read_text()
    named = {target for page in pages.PAGES for target in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))}
    named |= {command.split()[1] for page in pages.PAGES for command in pages.commands(page) if command[:4] == "make"}
    assert {"train", "test", "docs"} <= named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_expected_results_are_what_the_recipes_promise():
    table = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").partition("## Expected results")[2]
    rows = re.findall(r"^\| `(\w+)`.*\| .* \| ([\d.]+)(%?) \| ([\d.]+)%? of", table, re.MULTILINE)
    assert len(rows) >= 4
    for preset, promised, percent, worst in rows:
        ((_, side, bound),) = recipes.promises()[preset]
        scale = 100 if percent else 1
        assert float(promised) / scale == pytest.approx(bound), preset
        assert recipes.kept(float(worst) / scale, side, bound), preset


def test_every_preset_is_among_the_recipes():
    told = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml") if f"`{path.stem}`" not in told] == []


def test_the_badges_are_true():
    for name, badge in pictures.badges().items():
        assert (pictures.PICTURES / f"{name}.svg").read_text(encoding="utf-8") == badge, "make pictures"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.slow
def test_the_python_of_the_library_page_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"47\+85 = \d+ [✓✗]", done.stdout)
    assert "4 runs: 4 completed. 2 settings." in done.stdout


@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in pages.PAGES[1:]:
        path = (tmp_path / page.relative_to(ROOT / "docs")).with_suffix(".html")
        html = path.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"?(https?://[^\s\">]+)", html)
        assert [address for address in fetched if "canonical" not in address] == [], page
