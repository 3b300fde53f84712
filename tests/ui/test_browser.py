"""The page in a real browser: it follows what happens on the disk, shows text as text, and asks nobody else."""

import json
import os
import shutil

import pytest
from helpers.compared import make
from started.browser import go, number_of
from started.paged import log

from cleangpt.disk import alive
from cleangpt.disk.rundir import RunDir

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>%{y}"


def test_rows_appear_change_and_go_without_a_reload(tab, served):
    go(tab, served)
    tab.wait_for_selector("text=No run is here yet")
    make(served.folder / "one", 0.5)
    (served.folder / "one" / "summary.json").unlink()
    tab.wait_for_selector("tr:has-text('one') >> text=cut off")
    tab.check("tr:has-text('one') input")
    living = alive.Alive(RunDir(served.folder / "one"), lambda: None)
    tab.wait_for_selector("tr:has-text('one') >> text=running")
    make(served.folder / "another", 0.4)
    tab.wait_for_selector("tr:has-text('another')")
    assert tab.locator("tr:has-text('one') input").first.is_checked(), "a new row moves no tick"
    assert not tab.locator("tr:has-text('another') input").is_checked()
    living.close()
    (served.folder / "one" / "summary.json").write_text(json.dumps({"status": "failed", "step": 10, "error": "why"}))
    tab.wait_for_selector("tr:has-text('one') >> text=failed")
    shutil.rmtree(served.folder / "another")
    tab.wait_for_selector("tr:has-text('another')", state="detached")


def points(tab, key="train/loss"):
    return tab.evaluate("key => document.querySelector(`[data-key='${key}'] .plot`)?.data?.[0]?.x ?? []", key)


def wait_for_points(tab, expected):
    script = "n => (document.querySelector(`[data-key='train/loss'] .plot`)?.data?.[0]?.x ?? []).length === n"
    tab.wait_for_function(script, arg=len(expected))
    assert points(tab) == expected


def test_a_curve_grows_by_the_rows_that_were_added_and_a_resume_rewinds_it(tab, served):
    make(served.folder / "one")
    log(served.folder / "one", range(1, 6))
    go(tab, served, "#/curves?key=train/loss")
    wait_for_points(tab, [1, 2, 3, 4, 5])
    log(served.folder / "one", [6, 7, 8])
    wait_for_points(tab, [1, 2, 3, 4, 5, 6, 7, 8])
    kept = (served.folder / "one" / "metrics.jsonl").read_text().splitlines(keepends=True)[:4]
    (served.folder / "new").write_text("".join(kept))
    os.replace(served.folder / "new", served.folder / "one" / "metrics.jsonl")
    wait_for_points(tab, [1, 2, 3, 4])
    tab.select_option(".bar select >> nth=0", "seconds")
    tab.wait_for_selector(".xtitle:has-text('seconds')")
    tab.check("text=log y")
    tab.fill("[type=range]", "0.9")
    tab.wait_for_function("() => document.querySelector('.plot').data.length === 2")  # the raw line stays behind
    assert "smooth=0.9" in tab.url
    tab.reload()
    tab.wait_for_function("() => document.querySelector('.plot')?.data?.length === 2")


def test_zooming_asks_for_finer_points(tab, served):
    make(served.folder / "one")
    log(served.folder / "one", range(1, 5001))
    go(tab, served, "#/curves?key=train/loss", ".chart .main-svg")
    tab.wait_for_function("() => document.querySelector('.plot').data?.[0]?.x.length > 900")
    tab.evaluate(
        "() => Plotly.relayout(document.querySelector('.plot'), {'xaxis.range[0]': 2000, 'xaxis.range[1]': 2100})"
    )
    tab.wait_for_function("() => document.querySelector('.plot').data?.[0]?.x.length < 110")
    assert points(tab)[1:-1] == list(range(2000, 2101))
    log(served.folder / "one", [5001])
    tab.wait_for_timeout(2500)
    assert points(tab)[1:-1] == list(range(2000, 2101)), "the view stays where it was put"


def test_every_text_of_a_run_stays_text(tab, served):
    name = HOSTILE.replace("/", "∕")
    folder = served.folder / name
    changed = {HOSTILE: {"here": HOSTILE, "default": HOSTILE}}
    record = {"changed": changed, "overrides": [f"x={HOSTILE}"], "started": HOSTILE}
    make(folder, 0.5, 0.4, model__name=HOSTILE, seed=HOSTILE)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "summary.json").write_text(json.dumps({"status": HOSTILE, "error": HOSTILE, "val/" + HOSTILE: 3}))
    (folder / "notes.json").write_text(json.dumps({"note": HOSTILE, "tags": [HOSTILE]}))
    (folder / "train.log").write_text(HOSTILE + "\n")
    (folder / "samples.jsonl").write_text(
        json.dumps({"step": 1, "question": HOSTILE, "correct": False, "right": HOSTILE}) + "\n"
    )
    (folder / "score").mkdir()
    cut = {HOSTILE: HOSTILE, "problems": 1, "correct": 1, "accuracy": 1.0, "interval": [0, 1]}
    (folder / "score" / "test.json").write_text(json.dumps({"split": HOSTILE, f"by_{HOSTILE}": [cut]}))
    log(folder, [30, 40], **{HOSTILE: 5.0})
    make(served.folder / "other", 0.3, model__name="gpt")
    go(tab, served, wait="main tbody tr >> nth=1")
    identity = number_of(tab, "∕b>")
    everywhere = [
        "#/runs",
        f"#/curves?ids={identity}&key={HOSTILE.replace('%', '%25')}&key=train/loss",
        f"#/run/{identity}",
        "#/play",
    ]
    for where in everywhere:
        go(tab, served, where)
        if "run/" in where or "curves" in where:
            tab.wait_for_selector(".chart .main-svg")
            tab.hover(".chart .nsewdrag >> nth=0")
            tab.wait_for_timeout(300)
        assert tab.locator("text=onerror").count() or where == "#/play", where
        assert not tab.locator("main img[src=x], main b:text-is('bold'), .plot :text-is('bold')").count(), where
    go(tab, served)
    for box in tab.locator("tbody input").all():
        box.check()
    tab.click("text=Compare 2")
    tab.wait_for_selector("h2:has-text('Settings')")
    assert not tab.locator("main img[src=x], main b:text-is('bold')").count()


def test_sorting_searching_ticking_and_notes_by_keyboard(tab, served):
    for name, loss in (("b", 0.2), ("a", 0.3), ("c", 0.1)):
        make(served.folder / name, loss)
    go(tab, served, wait="main tbody tr >> nth=2")

    def shown():
        return [cell.strip() for cell in tab.locator("tbody td.c-run").all_inner_texts()]

    tab.click("th button:has-text('last')")
    assert tab.locator("th.c-last").get_attribute("aria-sort") == "ascending"
    assert shown() == ["c", "b", "a"]
    tab.keyboard.press("Enter")
    assert tab.locator("th.c-last").get_attribute("aria-sort") == "descending"
    assert shown() == ["a", "b", "c"]
    tab.keyboard.press("/")
    tab.keyboard.type("b")
    assert shown() == ["b"]
    tab.keyboard.press("Escape")
    tab.keyboard.press("j")
    tab.keyboard.press("x")
    assert tab.locator("tbody input").is_checked()
    tab.keyboard.press("n")
    tab.keyboard.type(HOSTILE)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("tbody >> text=onerror")
    assert json.loads((served.folder / "b" / "notes.json").read_text())["note"] == HOSTILE
    tab.fill("[type=search]", "")
    tab.click("[aria-label='Hide c']")
    tab.wait_for_function("() => document.querySelectorAll('main tbody tr').length === 2")
    tab.locator("main tbody tr", has=tab.locator("td.c-run", has_text="a")).focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("h1:has-text('a')")
    tab.go_back()
    tab.wait_for_selector("main tbody tr")
    tab.keyboard.press("p")
    tab.wait_for_selector("h1:has-text('Playground')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_fits_a_telephone(browser, tab, served, scheme):
    make(served.folder / ("a_rather_long_name_of_a_run" * 3), 0.5, 0.4, overrides=["x=" + "long" * 40])
    tab.set_viewport_size({"width": 400, "height": 700})
    tab.emulate_media(color_scheme=scheme)
    go(tab, served, wait="main tbody tr")
    identity = number_of(tab, "rather")
    for where in ("#/runs", "#/curves", f"#/run/{identity}", f"#/compare?ids={identity}", "#/play"):
        go(tab, served, where)
        tab.wait_for_timeout(300)
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 400, where
        ink, paper = tab.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
        assert (light[0] < light[1]) == (scheme == "light")


def test_what_somebody_writes_is_not_torn_away_by_a_new_row(tab, served):
    make(served.folder / "one", 0.5)
    go(tab, served, wait="main tbody tr")
    tab.click("[aria-label='Note on one']")
    tab.keyboard.type("half a thou")
    make(served.folder / "another", 0.5)
    tab.wait_for_selector("main .soft:has-text('2: 2 completed')")
    tab.keyboard.type("ght")
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => document.querySelectorAll('main tbody tr').length === 2")
    assert json.loads((served.folder / "one" / "notes.json").read_text())["note"] == "half a thought"
    assert "#/run/" not in tab.url


def test_a_sweep_is_compared_with_one_click(tab, served):
    for seed in range(2):
        make(served.folder / "mine" / f"000{seed}", 0.5 + seed, seed=seed)
        (served.folder / "mine" / f"000{seed}" / "job.json").write_text(json.dumps({"number": seed}))
    go(tab, served, "#/compare")
    tab.click("button:has-text('mine: 2 runs')")
    tab.wait_for_selector("h2:has-text('Settings')")
    assert "ids=" in tab.url


def test_the_page_of_a_young_run_grows_and_says_when_it_is_gone(tab, served):
    make(served.folder / "one")
    go(tab, served, wait="main tbody tr")
    go(tab, served, f"#/run/{number_of(tab, 'one')}")
    assert not tab.locator(".chart").count()
    log(served.folder / "one", [1, 2], **{"val/loss": 1.0, "lr": 0.1})
    tab.wait_for_selector("[data-key='val/loss'] .main-svg")
    assert tab.locator(".chart").count() == 3
    shutil.rmtree(served.folder / "one")
    tab.wait_for_selector("text=not on the disk any more")


def test_an_address_holds_a_view(tab, served):
    for name in ("one", "two", "three"):
        make(served.folder / name, 0.5)
        log(served.folder / name, [30], **{"a,b": 1.0})
    go(tab, served, wait="main tbody tr >> nth=2")
    one, two = number_of(tab, "one"), number_of(tab, "two")
    tab.check(f"tr[data-id='{one}'] input")
    go(tab, served, f"#/curves?ids={two}&key=a%2Cb", ".chart .main-svg")
    assert tab.locator(".legend a").all_inner_texts() == ["two"], "nothing else, whatever is ticked"
    assert tab.locator(".chart").get_attribute("data-key") == "a,b"
    tab.reload()
    tab.wait_for_selector("[data-key='a,b'] .main-svg")
    go(tab, served, "#/runs", "main tbody tr")
    tab.fill("[type=search]", "seed=0 two")
    tab.click("th button:has-text('last')")
    tab.reload()
    tab.wait_for_selector("main tbody tr")
    assert tab.locator("main tbody tr").count() == 1
    assert tab.locator("th.c-last").get_attribute("aria-sort")
    go(tab, served, f"#/play?run={one}&temperature=0.75&top_p=0.92&seed=7&prompt=hello")
    fields = [tab.input_value(f"label:has-text('{name}') input") for name in ("temperature", "top p", "seed")]
    assert fields == ["0.75", "0.92", "7"]
    assert tab.evaluate("() => document.querySelector('form.prompt').checkValidity()")
