"""The guide: every command is accepted and runs, links lead somewhere, generated pages are up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from started import pages
from started.programs import ROOT, environment

from cleangpt.basics import verbs
from cleangpt.basics.schema import leaves
from docs import keys, pictures, recipes

# Those whose commands together take a few seconds; `make test-slow` runs all.
QUICK = ("resume.md", "sampling.md", "security.md")
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
def test_the_whole_guide_runs_in_one_folder_page_by_page(tmp_path):
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    order = [ROOT / "README.md", *(ROOT / "docs" / name for name in re.findall(r": (\S+\.md)$", site, re.MULTILINE))]
    order = [page for page in order if page in GUIDE]
    assert len(order) == len(GUIDE)
    small_shakespeare(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for page in order:
        run_all(page, tmp_path)


def small_shakespeare(folder: Path) -> None:
    text = "".join(f"Line {n}: to be, or not to be, that is question {n * n}.\n" for n in range(400))
    (folder / "plays.txt").write_text(text)
    pages.run("python data/prepare.py dataset=shakespeare_char dataset.source=plays.txt", folder)


FENCES = {"bash", "text", "yaml", "python", "toml"}


@pytest.mark.parametrize("page", pages.PAGES, ids=title)
def test_a_page_begins_with_a_command(page):
    text = page.read_text(encoding="utf-8")
    opened = re.findall(r"^ *(?:```|~~~)(.*)$", text, re.MULTILINE)[::2]
    assert set(opened) <= FENCES, "tests find commands in these alone"
    if page.name in ("README.md", *pages.BUILDING):
        return
    head, fence, rest = text.partition("\n```")
    assert fence, page
    assert len(head.splitlines()) < 12
    assert re.match(r"bash\n(make|python|torchrun|cleangpt) |python\nimport cleangpt\n", rest), rest[:40]


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


@pytest.mark.parametrize("choice", ["dataset=text", "dataset=copy", "model=llama", "model=lstm", "optimizer=muon"])
def test_the_reference_has_the_defaults_of_each_choice(choice):
    page, group = keys.PAGE.read_text(encoding="utf-8"), choice.partition("=")[0]
    told = page.partition(f"### `{choice}`\n")[2].partition("\n### ")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)`)? \|", told, re.MULTILINE))
    same = re.findall(r"`([\w.]+)`", told.partition("As with")[2])
    values = leaves({group: keys.composition.defaults("train", choice)[group]})
    del values[f"{group}.name"]
    told_below = {key.rpartition(".")[0] for key in rows}  # of a section that is null
    assert {*rows, *same, *told_below} >= set(values)
    there = {key: value for key, value in values.items() if key in rows and not isinstance(value, list)}
    shown = {key: float(rows[key]) if type(there[key]) is float else yaml.safe_load(rows[key]) for key in there}
    assert shown == there


PLAIN_KEY = re.compile(r"^([a-z_]+(?:\.[a-z_0-9]+)+)=")
COMMAND = re.compile(r"^(?:python|torchrun|cleangpt) [^<…]*$")


@pytest.mark.parametrize("page", GUIDE, ids=title)
def test_what_stands_in_a_line_is_right_too(tmp_path, monkeypatch, page):
    """Commands and keys in running text, and commands that no test runs, since they need a network or several nodes."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)]
    known = {key for schema in keys.SCHEMAS.values() for key in keys.keys(schema)} | set(keys.settings.help_keys())
    known |= {f"hydra.launcher.{key}" for key in keys.keys(keys.settings.Submitit)}
    named = [found[1] for words in inline if (found := PLAIN_KEY.match(words))]
    of_theirs = ("hydra.", "ask.", "trainer.", "data.", "schedule.", "template.", "dataset.sets", "train.stop_when")
    assert [key for key in named if key not in known and not key.startswith(of_theirs)] == []
    blocks = [re.sub(r"\\\n *", "", block) for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL)]
    in_text = [line for block in blocks for line in block.splitlines()]
    told = [words for words in (*inline, *in_text) if COMMAND.match(words)]
    told = [words for words in told if any(script in words.split() for script in verbs.SCRIPTS.values())]
    told = [words for words in told if not any(word.endswith((".py", "N")) for word in words.split()[-1:])]
    refused = {command: found for command in told if (found := pages.mistakes(command))}
    assert refused == {}


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
def test_the_python_of_the_readme_and_the_library_page_runs(tmp_path):
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "docs" / "library.md")]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
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
