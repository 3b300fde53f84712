"""The page in a real browser: it follows what happens on the disk, shows text as text, and asks nobody else."""

import json
import os
import shutil
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest
from helpers.compared import make
from helpers.saved_models import three_runs
from started.paged import Paged
from started.programs import run_program

from cleangpt.disk import alive
from cleangpt.disk.rundir import RunDir

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium is here")]
SOON = 10_000  # milliseconds
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>%{y}"


@pytest.fixture(scope="session")
def browser():
    with playwright.sync_playwright() as started:
        args = ["--no-sandbox", "--disable-dev-shm-usage"]  # it opens our own page, and tests may run as root
        opened = started.chromium.launch(executable_path=CHROMIUM, args=args)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paged") / "runs"
    folder.mkdir()
    server = Paged(folder)
    yield SimpleNamespace(folder=folder, address=server.address)
    assert server.close() == 0


@pytest.fixture
def tab(browser, served):
    """A page for this test's runs, which fails where an error was said, or anybody else was asked."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def only_ours(route):
        if not route.request.url.startswith((served.address, "data:", "blob:")):
            wrong.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/*", only_ours)
    page.set_default_timeout(SOON)
    page.wrong = wrong
    yield page
    context.close()
    for path in served.folder.iterdir():
        shutil.rmtree(path)
    assert not wrong


def go(tab, served, where="", wait="main h1"):
    tab.goto(f"{served.address}/{where}")
    tab.wait_for_selector(wait)


def log(folder, steps, **more):
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(
                json.dumps({"step": step, "train/loss": 1 / step, "tokens": step, "seconds": step, **more}) + "\n"
            )


def number_of(tab, name):
    return tab.locator("main tbody tr", has_text=name).get_attribute("data-id")


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


def test_the_playground_says_what_sample_says(tab, served, tmp_path):
    runs = three_runs(served.folder)
    for name in ("letters", "adder"):
        log(served.folder / name, [1], **{"val/loss": 1.0, **({"val/accuracy": 0.0} if name == "adder" else {})})
    go(tab, served, wait="main tbody tr >> nth=2")
    identity = number_of(tab, "letters")
    words = ("prompt=once", "seed=3", "max_new_tokens=20", "temperature=0.9", "top_k=5", "repetition_penalty=1.2")
    done = run_program("sample.py", f"run={runs.letters}", *words, cwd=tmp_path)
    go(tab, served, f"#/play?run={identity}")
    tab.fill("textarea", "once")
    for word in words[1:]:
        name, value = word.split("=")
        tab.fill(f"label:has-text('{name.replace('_', ' ')}') input", value)
    tab.click("button:has-text('Write')")
    tab.wait_for_selector("text=ended:", timeout=60_000)
    shown = "".join(tab.locator(".said .given, .said .token").all_text_contents())
    assert shown == done.stdout.removesuffix("\n")
    tab.locator(".token").nth(4).click()
    before, after = (tab.locator(".likeliest").nth(n).locator("tr").count() for n in range(2))
    assert (before, after) == (10, 5), "top_k=5 leaves five"
    assert tab.locator(".likeliest .taken").count() == 2

    go(tab, served, f"#/play?run={number_of_run(tab, 'adder')}")
    tab.reload()  # the rules stay as they were until then
    done = run_program("sample.py", f"run={runs.adder}", "prompt=12+34", cwd=tmp_path)
    tab.fill("textarea", "12+34")
    tab.click("button:has-text('Write')")
    tab.wait_for_selector(".verdict", timeout=60_000)
    assert "✗ it is 46" in done.stdout, "it never learned"
    assert done.stdout.strip() == f"12+34 = {tab.locator('.digits').inner_text().lstrip('_')} ✗ it is 46"
    tab.click("text=Ask 10")
    tab.wait_for_selector(".answers li >> nth=9", timeout=60_000)
    tab.click("text=Ask 10")
    tab.wait_for_selector(".answers li >> nth=19")
    problems = [text.split(" = ")[0] for text in tab.locator(".answers li").all_inner_texts()]
    assert len(set(problems)) == 20
    (tmp_path / "problems.txt").write_text("\n".join(problems) + "\n")
    done = run_program("sample.py", f"run={runs.adder}", "prompts=problems.txt", "output=out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    ours = [text.lstrip("_") for text in tab.locator(".answers .digits").all_inner_texts()]
    assert ours == [one["text"] for one in theirs]
    right = sum(one["correct"] for one in theirs)
    assert tab.locator(".quizscore").inner_text().startswith(f"{right} of 20 right: {5 * right:.1f}%, 95% interval")


def number_of_run(tab, name):
    found = "async name => (await (await fetch('/api/runs')).json()).rows.find(row => row.name === name).id"
    return tab.evaluate(found, name)


def test_two_models_answer_one_prompt_side_by_side(tab, served):
    three_runs(served.folder)
    go(tab, served, wait="main tbody tr >> nth=2")
    one, other = (number_of_run(tab, name) for name in ("letters", "bytes"))
    go(tab, served, f"#/play?run={one}&other={other}&max_new_tokens=5&prompt=hello")
    tab.click("button:has-text('Write')")
    ended = "() => [...document.querySelectorAll('.panel')].every(panel => panel.textContent.includes('ended:'))"
    tab.wait_for_function(ended, timeout=60_000)
    assert [panel.locator(".given").inner_text() for panel in tab.locator(".panel").all()] == ["hello", "hello"]
    assert [panel.locator(".token").count() for panel in tab.locator(".panel").all()] == [5, 5]


class Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_):
        pass


def test_a_page_of_somebody_else_reads_nothing_and_changes_nothing(browser, served, tab):
    make(served.folder / "one", 0.5)
    go(tab, served, wait="main tbody tr")
    identity = number_of(tab, "one")
    script = """async ([address, id]) => {
      const tried = [], written = {method: "POST", body: '{"note": "bad"}', headers: {"Content-Type": "text/plain"}};
      for (const mode of ["cors", "no-cors"])
        for (const [path, how] of [["/api/runs", {}], [`/api/runs/${id}/note`, written]])
          tried.push(await fetch(address + path, {mode, ...how}).then(found => found.text()).catch(() => "refused"));
      return tried;
    }"""
    with socketserver.TCPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        assert set(page.evaluate(script, [served.address, identity])) <= {"refused", ""}
        page.set_content(f"<iframe src='{served.address}/'></iframe>")
        page.wait_for_timeout(500)
        assert not page.frames[1].query_selector("main"), "it is in nobody's frame"
        page.close()
        server.shutdown()
    assert not (served.folder / "one" / "notes.json").exists()


def test_beyond_this_machine_a_browser_shows_a_token_once(browser, tmp_path):
    (tmp_path / "runs").mkdir()
    make(tmp_path / "runs" / "one", 0.5)
    server = Paged(tmp_path / "runs", "host=0.0.0.0", "token=of-sixteen-letters")
    address = server.address
    try:
        assert server.said[0].endswith("/?token=of-sixteen-letters")
        context = browser.new_context()
        page = context.new_page()
        assert page.goto(address).status == 401
        page.goto(f"{address}/?token=of-sixteen-letters")
        page.wait_for_selector("main tbody tr")
        assert "token" not in page.url
        assert page.evaluate("() => document.cookie") == "", "no script reads it"
        assert page.goto(address).status == 200
        context.close()
    finally:
        assert server.close() == 0


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
