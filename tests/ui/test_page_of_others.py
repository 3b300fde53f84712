"""The page over runs that are damaged, strange, or somebody else's, and what it keeps of a person's."""

import json

import pytest
from helpers.compared import make
from started.paged import curve, log, rows


def test_a_link_leads_to_a_run_but_not_out_of_one(page):
    scratch = page.folder.parent / "scratch"
    make(scratch / "far", 0.5)
    make(scratch / "secret", 0.1)
    (page.folder / "disk").symlink_to(scratch / "far")
    make(page.folder / "a", 0.5)
    (page.folder / "a" / "more").symlink_to(scratch)
    (page.folder / "loop").symlink_to(page.folder)
    assert set(rows(page.get("/api/runs"))) == {"disk", "a"}


@pytest.mark.parametrize("name", ["config.json", "run.json", "summary.json", "notes.json"])
def test_one_run_that_is_not_what_it_should_be_hides_no_other(page, name):
    make(page.folder / "good", 0.5)
    for number, text in enumerate(("[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "[]", "5", "")):
        make(page.folder / f"bad{number}", 0.5)
        (page.folder / f"bad{number}" / name).write_text(text)
    deep: object = 1
    for _ in range(700):
        deep = {"here": deep}
    (page.folder / "bad0" / "run.json").write_text(json.dumps({"changed": {"x": deep}, "started": [1]}))
    found = rows(page.get("/api/runs"))
    assert len(found) == 6
    assert found["good"]["status"] == "completed"
    for one in found:
        page.get(f"/api/runs/{page.number(one)}")
        curve(page, one)
    page.get("/api/compare", ids=",".join(map(page.number, found)))


def test_lines_of_any_length_and_numbers_of_any_size_are_read(page):
    make(page.folder / "a", 0.5)
    path = page.folder / "a" / "metrics.jsonl"
    with path.open("ab") as file:
        file.write(b'{"step": 99999999999999999999, "val/loss": 1}\n' + b"0" * (9 << 20) + b"\n")
        file.truncate(40 << 20)
    log(page.folder / "a", [20, 30])
    assert rows(page.get("/api/runs"))["a"]["step"] == 30
    assert curve(page, "a")["x"] == [10, 30], "the line of 20 begins with the rubbish before it"
    digits = "9" * 5000
    first = page.get("/api/runs")["version"]
    assert page.get("/api/runs", since=first.partition("-")[0] + "-" + digits)["all"]
    number = page.number("a")
    (page.folder / "a" / "train.log").write_text("line\n")
    page.get(f"/api/runs/{number}/log", **{"from": digits})
    page.get(f"/api/runs/{number}/score/{digits}", 404)
    page.get(f"/api/runs/{number}/picture/{digits}", 404)


def test_a_file_written_anew_in_place_is_read_anew(page):
    make(page.folder / "a")
    log(page.folder / "a", range(1, 100))
    page.get("/api/runs")
    assert len(curve(page, "a")["x"]) == 99
    path = page.folder / "a" / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "val/loss": 5.0}) + "\n" for step in range(1, 400)))
    assert set(curve(page, "a")["y"]) == {5.0}
    row = rows(page.get("/api/runs"))["a"]
    assert (row["step"], row["best"]["val/loss"]) == (399, [5.0, 1])


def test_a_smoothed_line_is_the_mean_of_all_rows_wherever_one_looks(page):
    make(page.folder / "a")
    with (page.folder / "a" / "metrics.jsonl").open("a") as file:
        for step in range(1, 10_008):
            value = None if step == 5000 else 10.0 if step % 25 == 0 else 1.0
            file.write(json.dumps({"step": step, "val/loss": value}) + "\n")
    page.get("/api/runs")
    whole = curve(page, "a", smooth=0.95)["smooth"]
    known = [value for value in whole["y"] if value is not None]
    assert 1.0 <= min(known) <= max(known) < 1.7
    assert len(whole["x"]) <= 1000
    near = curve(page, "a", smooth=0.95, begin=5010, end=5100)["smooth"]
    everywhere = dict(zip(whole["x"], whole["y"], strict=True))
    shared = [(y, everywhere[x]) for x, y in zip(near["x"], near["y"], strict=True) if x in everywhere]
    assert shared
    assert all(one == other for one, other in shared)
    assert curve(page, "a", smooth=0.5, bands=True)["smooth"]["y"]


def test_a_run_without_values_and_one_without_configuration_join_no_band(page):
    for name in ("one", "other", "null"):
        make(page.folder / name, 0.5, 0.4, seed=len(name))
    for name in ("one", "other"):
        (page.folder / name / "config.json").unlink()
    lines = [json.dumps({"step": step, "val/loss": None}) for step in (10, 20)]
    (page.folder / "null" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page.get("/api/runs")
    found = curve(page, "one", "other", "null", bands=True, x="seconds")
    assert [band["seeds"] for band in found] == [1, 1]


def test_notes_that_cannot_be_read_are_not_written_over(page):
    make(page.folder / "a", 0.5)
    page.get("/api/runs")
    path, where = page.folder / "a" / "notes.json", f"/api/runs/{page.number('a')}/note"
    path.write_text('{"note": "three weeks", "stars": 5}')
    assert page.post(where, {"hidden": True})["note"] == "three weeks"
    assert json.loads(path.read_text()) == {"note": "three weeks", "tags": [], "hidden": True, "stars": 5}
    path.write_text(json.dumps({"note": "x" * 9000}))
    assert len(page.post(where, {"hidden": False})["note"]) == 2000
    assert json.loads(path.read_text())["note"] == "x" * 9000, "what is shown is shortened, what is kept is not"
    for rubbish in ("[", '{"note": 5}'):
        path.write_text(rubbish)
        assert "put it right" in page.post(where, {"hidden": True}, 409)["error"]["message"]
        assert path.read_text() == rubbish
    path.unlink()
    page.post(where, {"tags": ["x" * 101]}, 400)


def test_runs_of_several_folders_have_names_of_their_own(tmp_path):
    from cleangpt.ui.live import Live

    for name in ("one", "other"):
        make(tmp_path / name / "m", 0.5)
    found = Live([tmp_path / "one", tmp_path / "other"]).since("")["rows"]
    assert {row["name"] for row in found} == {"one/m", "other/m"}


def test_programs_find_models_by_their_names(page):
    from helpers.saved_models import saved

    saved(page.folder / "sweep" / "0000_x=1")
    make(page.folder / "none", 0.5)
    names = [model["id"] for model in page.get("/v1/models")["data"]]
    assert names == ["sweep/0000_x=1/best"]
    assert page.get("/v1/models/sweep/0000_x=1/best")["id"] == names[0]
    for wrong in ("sweep/0000_x=1/final", "none/best", "../best", "best"):
        page.get(f"/v1/models/{wrong}", 404)
    (page.folder / "sweep" / "0000_x=1" / "best" / "model.safetensors").unlink()
    assert page.get("/v1/models")["data"] == []
