"""What docs/architecture.md says of the house is so."""

import re
from pathlib import Path

import pytest
from started.programs import ROOT

from cleangpt.basics.version import VERSION
from docs import rooms

DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CORE, MOST = 4_500, 400  # lines


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as they are made of their words."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_every_page_is_in_the_site_and_in_the_index():
    site, index = (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), ROOT / "docs" / "index.md"
    pages = [page.relative_to(index.parent).as_posix() for page in DOCS if page.is_relative_to(index.parent)]
    pages = [page for page in pages if not page.startswith("fast_report/")]  # what a report wrote
    assert [page for page in pages if f": {page}\n" not in site] == []
    assert [
        page for page in pages if f"]({page})" not in index.read_text(encoding="utf-8") and page != index.name
    ] == []


def test_the_picture_has_every_room():
    folders = {path.parent.name for path in (ROOT / "cleangpt").glob("*/__init__.py")}
    assert {room for floor in rooms.floors() for room in floor} == folders
    picture = rooms.PICTURE.read_text()
    assert [room for room in folders if f"{room}/" not in picture] == []


def test_the_purpose_of_a_room_fits_into_the_picture():
    for floor in rooms.floors():
        assert [room for room in floor if not 0 < len(rooms.purpose(room)) <= 110 / len(floor)] == []


def test_the_core_is_an_evenings_reading():
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## The core")[2].partition("## ")[0]
    files = [ROOT / "docs" / link for link in re.findall(r"\]\(([^)]+\.py)\)", page)]
    assert len(files) > 20
    assert sum(len(path.read_text().splitlines()) for path in files) < CORE


@pytest.mark.parametrize("top", ["cleangpt", "benchmark", "tests"])
def test_no_file_is_longer_than_a_reading_and_no_folder_is_crowded(top):
    files = [path for path in (ROOT / top).rglob("*.py") if "versions" not in path.parts]
    assert [path.name for path in files if len(path.read_text().splitlines()) > MOST] == []
    folders = {path.parent for path in files}
    crowd = 13 if top == "cleangpt" else 15  # with its __init__.py
    assert [folder.name for folder in folders if len(list(folder.glob("*.py"))) > crowd] == []


def test_every_room_is_a_docstring_that_maps_it():
    for path in (ROOT / "cleangpt").glob("*/__init__.py"):
        names = {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
        assert [name for name in names if not re.search(rf"\b{name}\b", path.read_text())] == [], path.parent.name
        if path.parent.name not in rooms.CHOSEN:
            assert path.read_text().rstrip().endswith('"""'), path


def test_there_is_one_version():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert (newest[1], cited[1]) == (VERSION, VERSION)
