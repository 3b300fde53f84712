"""What the page is told of runs, their curves, files and comparisons, and what it may do."""

import json
import os

import pytest
from helpers.compared import make
from started.paged import curve, log, rows

from cleangpt.disk import alive
from cleangpt.disk.rundir import RunDir
from cleangpt.report import collect, tables
from cleangpt.report.compare import compare
from cleangpt.report.words import findings

HOSTILE = "<img src=x onerror=alert(1)>"


def test_only_what_changed_is_sent(page):
    make(page.folder / "a", 0.5, 0.4)
    make(page.folder / "b", 0.5, status="failed")
    first = page.get("/api/runs")
    assert first["all"]
    assert {name: row["status"] for name, row in rows(first).items()} == {"a": "completed", "b": "failed"}
    nothing = page.get("/api/runs", since=first["version"])
    assert nothing == {"version": first["version"], "all": False, "rows": [], "gone": []}
    log(page.folder / "b", [30])
    make(page.folder / "c", 0.3)
    (page.folder / "a").rename(page.folder.parent / "elsewhere")
    then = page.get("/api/runs", since=first["version"])
    assert set(rows(then)) == {"b", "c"}
    assert then["gone"] == [page.number("a")]
    for strange in ("", "nonsense", "abcd-5", "-", first["version"] + "x"):
        assert page.get("/api/runs", since=strange)["all"], strange


def test_a_row_says_how_a_run_stands(page):
    changed = {"model.n_layer": {"here": 4, "default": 2}, "train.steps": {"here": 100, "default": 50}}
    for seed, layers in enumerate((4, 6)):
        folder = page.folder / "sweep" / f"000{seed}_x={layers}"
        make(folder, 0.9, 0.2, 0.4, accuracy=[0.1, 0.9, 0.5], seed=seed, train__steps=100, model__n_layer=layers)
        changed["model.n_layer"]["here"] = layers
        (folder / "run.json").write_text(json.dumps({"changed": changed, "more_is_better": ["accuracy"]}))
        (folder / "job.json").write_text(json.dumps({"number": seed}))
    row = rows(page.get("/api/runs"))["sweep/0000_x=4"]
    assert (row["step"], row["steps"], row["seed"], row["sweep"], row["job"]) == (30, 100, "0", "sweep", "0000_x=4")
    assert row["best"] == {"val/loss": [0.2, 20], "val/accuracy": [0.9, 20]}
    assert row["values"]["val/loss"] == 0.4
    assert row["differs"] == [["model.n_layer", "4"]], "what all jobs changed alike is left out"


def test_the_best_of_a_long_run_is_found_where_only_its_end_was_read(page, monkeypatch):
    monkeypatch.setattr("cleangpt.follow.index.TAIL", 200)
    monkeypatch.setattr("cleangpt.ui.live.CLOSER", -1.0)
    make(page.folder / "a", *[0.5, 0.01, *[0.3] * 50])
    make(page.folder / "b", *[0.5, 0.02, *[0.3] * 50])
    wholes = []
    for _ in range(3):
        page.live.refresh()
        found = rows(page.get("/api/runs"))
        wholes.append(sum(row["whole"] for row in found.values()))
    assert wholes[-1] == 2, "one a look"
    assert [found[name]["best"]["val/loss"] for name in "ab"] == [[0.01, 20], [0.02, 20]]


def test_a_curve_grows_by_the_rows_that_were_added_and_a_resume_rewinds_it(page):
    make(page.folder / "a")
    log(page.folder / "a", range(1, 6))
    page.get("/api/runs")
    assert curve(page, "a")["x"] == [1, 2, 3, 4, 5]
    log(page.folder / "a", [6, 7])
    with (page.folder / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "val/loss"')
    assert curve(page, "a")["x"] == [1, 2, 3, 4, 5, 6, 7]
    lines = (page.folder / "a" / "metrics.jsonl").read_text().splitlines()[:3]
    (page.folder / "new").write_text("\n".join(lines) + "\n")
    os.replace(page.folder / "new", page.folder / "a" / "metrics.jsonl")
    assert curve(page, "a")["x"] == [1, 2, 3]
    log(page.folder / "a", [4], **{"val/loss": None})
    log(page.folder / "a", [5])
    found = curve(page, "a")
    assert found["x"] == [1, 2, 3, 4, 5]
    assert found["y"] == [1, 0.5, 1 / 3, None, 0.2]
    log(page.folder / "a", [2, 3])  # without a new file
    assert curve(page, "a")["x"] == [1, 2, 3]
    (page.folder / "a" / "metrics.jsonl").write_text("nonsense\n[]\n\0\n")
    assert curve(page, "a") == []
    (page.folder / "a" / "metrics.jsonl").unlink()
    assert curve(page, "a") == []


def test_a_long_curve_keeps_its_spikes_and_is_finer_where_it_is_looked_at(page):
    make(page.folder / "a")
    log(page.folder / "a", range(1, 5001))
    log(page.folder / "a", [5001], **{"val/loss": 77.0})
    log(page.folder / "a", range(5002, 10_001))
    page.get("/api/runs")
    whole = curve(page, "a", points=100)
    assert len(whole["x"]) <= 100
    assert (whole["x"][0], whole["x"][-1]) == (1, 10_000)
    assert max(whole["y"]) == 77.0
    assert whole["y"][0] == 1.0
    near = curve(page, "a", points=100, begin=4990, end=5010)
    assert near["x"] == list(range(4989, 5012)), "one more on either side, to which the line leads"


def test_curves_run_along_tokens_time_and_arithmetic(page):
    make(page.folder / "a", 0.5, 0.4, overrides=[])
    record = page.folder / "a" / "run.json"
    page.get("/api/runs")
    assert curve(page, "a", x="tokens")["x"] == [1000, 2000]
    assert curve(page, "a", x="seconds")["x"] == [60, 120]
    assert curve(page, "a", x="flops") == [], "the run does not say what a token takes"
    record.write_text(json.dumps({"flops_per_token": 50}))
    page.get("/api/runs")
    assert curve(page, "a", x="flops")["x"] == [50_000, 100_000]
    assert curve(page, "a", key="nothing") == []
    assert page.get("/api/names", ids=page.number("a")) == ["seconds", "tokens", "train/loss", "val/loss"]


def test_seeds_are_a_band(page):
    for seed, losses in enumerate(([0.5, 0.3], [0.7, 0.5])):
        make(page.folder / f"s{seed}", *losses, seed=seed)
    make(page.folder / "other", 0.9, model__n_layer=5)
    page.get("/api/runs")
    both, other = sorted(curve(page, "s0", "s1", "other", bands=True), key=lambda band: -band["seeds"])
    assert (both["x"], both["low"], both["high"]) == ([10, 20], [0.5, 0.3], [0.7, 0.5])
    assert both["y"] == pytest.approx([0.6, 0.4])
    assert (both["seeds"], other["seeds"]) == (2, 1)
    along = curve(page, "s0", "s1", bands=True, x="tokens", begin=1500)
    assert along[0]["x"] == [1000, 2000]


@pytest.mark.parametrize(
    "asked", [{"points": 1001}, {"points": 3}, {"x": "dates"}, {"ids": ",".join("x" * 65)}, {"begin": "nan"}, {"no": 1}]
)
def test_a_request_for_curves_has_bounds(page, asked):
    found = page.get("/api/curves", 400, **{"ids": "x", "key": "val/loss", **asked})
    assert next(iter(asked)) in found["error"]["message"]


def test_a_run_is_described(page):
    make(
        page.folder / "a",
        0.5,
        status="stopped",
        overrides=["model=gpt_tiny", "hydra.run.dir=/", "--config-dir=x", "train.steps=3", "seed=0"],
    )
    record = json.loads((page.folder / "a" / "run.json").read_text())
    record["changed"] = {"train.steps": {"here": 3, "default": 600}, "dataset.sets.far": {"here": [1]}}
    (page.folder / "a" / "run.json").write_text(json.dumps(record))
    page.get("/api/runs")
    found = page.get(f"/api/runs/{page.number('a')}")
    assert found["changed"] == [["train.steps", "3", "600"], ["dataset.sets.far", "[1]", ""]]
    assert ["model.name", "llama"] in found["config"]
    commands = dict(found["commands"])
    assert commands["Go on"].endswith("train.py resume=runs/a")
    assert commands["Another seed"].endswith("model=gpt_tiny train.steps=3 seed=1")
    assert page.get("/api/runs/0123456789abcdef", 404)["error"]["message"]


def test_logs_and_samples_are_read_as_they_grow(page):
    make(page.folder / "a", 0.5)
    path, number = page.folder / "a" / "train.log", page.number("a")
    path.write_text("one\n\x1b[31mtwo\nhal")
    page.get("/api/runs")
    first = page.get(f"/api/runs/{number}/log")
    assert first["text"] == "one\n␛[31mtwo\n"
    with path.open("a") as file:
        file.write("f\n")
    then = page.get(f"/api/runs/{number}/log", **{"from": first["to"]})
    assert (then["text"], then["from"]) == ("half\n", first["to"])
    path.write_text("anew\n")
    assert page.get(f"/api/runs/{number}/log", **{"from": then["to"]})["text"] == "anew\n"
    (page.folder / "a" / "samples.jsonl").write_text(json.dumps({"step": 3, "question": HOSTILE}) + "\nrubbish\n")
    assert page.get(f"/api/runs/{number}/samples")["rows"] == [{"step": 3, "question": HOSTILE}]


def test_a_long_log_is_sent_from_its_end_in_whole_lines(page):
    make(page.folder / "a", 0.5)
    (page.folder / "a" / "train.log").write_text("".join(f"line {n}\n" for n in range(40_000)))
    page.get("/api/runs")
    found = page.get(f"/api/runs/{page.number('a')}/log")
    assert 0 < len(found["text"]) <= 1 << 16
    assert found["text"].startswith("line ")
    assert found["text"].endswith("line 39999\n")


def test_no_link_and_no_pipe_leads_out_of_a_run(page):
    secret = page.folder.parent / "secret"
    secret.write_text("secret\n")
    make(page.folder / "a", 0.5)
    run, number = page.folder / "a", page.number("a")
    (run / "train.log").symlink_to(secret)
    os.mkfifo(run / "samples.jsonl")
    os.mkfifo(run / "notes.json")
    (run / "score").mkdir()
    (run / "plots").symlink_to(page.folder.parent)
    (run / "score" / "x.json").symlink_to(secret)
    (page.folder.parent / "x.png").write_bytes(b"x")
    page.get("/api/runs")
    about = page.get(f"/api/runs/{number}")
    assert about["pictures"] == about["scores"] == []
    for part in ("log", "samples"):
        assert page.get(f"/api/runs/{number}/{part}")["to"] == 0, part
    assert page.get(f"/api/runs/{number}/picture/0", 404)
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert rows(page.get("/api/runs"))["a"]["read"] == [0, 0]
    assert curve(page, "a") == []
    assert page.get("/api/compare", ids=number)["statuses"].startswith("1 run")


def test_scores_and_pictures_are_found_by_their_place(page):
    make(page.folder / "a", 0.5)
    (page.folder / "a" / "score").mkdir()
    (page.folder / "a" / "score" / "test.json").write_text(json.dumps({"accuracy": 0.5, HOSTILE: "\x1b"}))
    (page.folder / "a" / "score" / "test.png").write_bytes(b"\x89PNG")
    page.get("/api/runs")
    about = page.get(f"/api/runs/{page.number('a')}")
    assert (about["scores"], about["pictures"]) == (["test"], ["score/test.png"])
    assert page.get(f"/api/runs/{page.number('a')}/score/0") == {"accuracy": 0.5, HOSTILE: "␛"}
    picture = page.client.get(f"/api/runs/{page.number('a')}/picture/0")
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    page.get(f"/api/runs/{page.number('a')}/score/1", 404)


def test_a_comparison_is_that_of_a_report(page):
    for seed in range(3):
        for digits, loss in ((2, 0.4), (3, 0.8)):
            make(page.folder / f"{digits}{seed}", 1, loss + seed / 100, seed=seed, dataset__digits=digits)
    paths = sorted(page.folder.iterdir())
    expected = compare(collect.read(paths), None)
    page.get("/api/runs")
    found = page.get("/api/compare", ids=",".join(page.number(path.name) for path in paths))
    table = tables.of_groups(expected)
    assert found["settings"]["titles"] == table.titles
    assert [[text for text, _ in row] for row in found["settings"]["rows"]] == [
        [c.text for c in row] for row in table.rows
    ]
    assert found["findings"] == findings(expected)
    (effect,) = found["effects"]
    assert (effect["key"], effect["values"]) == ("dataset.digits", ["2", "3"])
    assert effect["lines"][0]["means"] == pytest.approx([0.41, 0.81])
    assert found["best"] == 0
    judged = page.get("/api/compare", ids=page.number("20"), metric="train/loss")
    assert judged["metric"] == "train/loss"
    wrong = page.get("/api/compare", 400, ids=page.number("20"), metric="val/los")
    assert "val/loss" in wrong["error"]["message"]
    page.get("/api/compare", 404, ids="none")


def test_notes_are_kept_beside_the_run(page):
    make(page.folder / "a", 0.5)
    page.get("/api/runs")
    where = f"/api/runs/{page.number('a')}/note"
    assert page.post(where, {"note": HOSTILE, "tags": ["good"]})["note"] == HOSTILE
    row = page.post(where, {"hidden": True})
    assert (row["note"], row["tags"], row["hidden"]) == (HOSTILE, ["good"], True)
    kept = json.loads((page.folder / "a" / "notes.json").read_text())
    assert kept == {"note": HOSTILE, "tags": ["good"], "hidden": True}
    for wrong in ({"note": 5}, {"note": "x" * 2001}, {"path": "x"}, []):
        page.post(where, wrong, 400)
    (page.folder / "a" / "notes.json").write_text("[rubbish")
    assert rows(page.get("/api/runs"))["a"]["note"] == ""


def test_a_run_is_asked_to_stop_only_while_it_lives(page):
    make(page.folder / "a", 0.5)
    (page.folder / "a" / "summary.json").unlink()
    page.get("/api/runs")
    where, asked = f"/api/runs/{page.number('a')}/stop", []
    page.post(where, {}, 409)
    living = alive.Alive(RunDir(page.folder / "a"), lambda: asked.append(1))
    try:
        assert rows(page.get("/api/runs"))["a"]["status"] == "running"
        page.post(where, {"now": True}, 400)
        assert not (page.folder / "a" / "stop").exists()
        page.post(where, {})
        assert (page.folder / "a" / "stop").exists()
    finally:
        living.close()
    assert rows(page.get("/api/runs"))["a"]["status"] == "cut_off"


def test_what_changes_something_comes_from_the_page_itself(page):
    make(page.folder / "a", 0.5)
    page.get("/api/runs")
    where = f"/api/runs/{page.number('a')}/note"
    page.post(where, {}, 403, origin="https://evil.example")
    assert page.client.post(where, content="note=x").status_code == 415
    assert page.client.get("/", headers={"host": "evil.example"}).status_code == 400
    page.get(where, 405)
    for path in ("/api/speak", "/api/quiz"):
        page.post(path, {"run": page.number("a"), "weights": "best"}, 403, origin="null")
        page.post(path, {"run": "none", "weights": "best"}, 404)
        page.post(path, {"run": page.number("a")}, 400)


def test_files_of_the_page_are_those_that_it_has(page):
    found = page.client.get("/")
    assert "script-src 'self'" in found.headers["content-security-policy"]
    assert "unsafe" not in found.headers["content-security-policy"]
    assert "http" not in found.text.replace("http-equiv", ""), "nothing comes from another address"
    assert page.client.get("/static/1/app.js").headers["content-type"].startswith("text/javascript")
    assert len(page.client.get("/static/1/plotly.js").content) > 1_000_000
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/run.py", "nothing.js", "page.html", ".", ""):
        assert page.client.get(f"/static/1/{name}").status_code in (400, 404), name


def test_a_model_without_weights_is_said_to_have_none(page):
    make(page.folder / "a", 0.5)
    page.get("/api/runs")
    assert page.get(f"/api/runs/{page.number('a')}")["weights"] == []
    found = page.client.post("/api/speak", json={"run": page.number("a"), "weights": "../../etc"})
    last = json.loads(found.text.splitlines()[-1])
    assert last["kind"] == "error"
    assert "is not there" in last["why"]
