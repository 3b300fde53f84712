"""The playground in a real browser says what sample.py says, and pages of others get nothing."""

import json
import shutil
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from helpers.compared import make
from helpers.saved_models import three_runs
from started.browser import go, number_of, number_of_run
from started.paged import Paged, log
from started.programs import run_program

pytestmark = pytest.mark.browser


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


def test_a_quiz_begins_anew_where_its_weights_are_gone(tab, served):
    runs = three_runs(served.folder)
    folder = served.folder / "adder"
    shutil.copytree(f"{runs.adder}/best", folder / "final")
    log(folder, [1], **{"val/accuracy": 0.0})
    go(tab, served, wait="main tbody tr >> nth=2")
    go(tab, served, f"#/play?run={number_of_run(tab, 'adder')}&weights=final")
    tab.click("text=Ask 10")
    tab.wait_for_selector(".answers li >> nth=9", timeout=60_000)
    shutil.rmtree(folder / "final")
    log(folder, [2], **{"val/accuracy": 0.0})
    tab.wait_for_function("() => !document.querySelector('.answers li')")
    assert tab.input_value("[aria-label=Weights]") == "best"
    assert not tab.locator(".quizscore").inner_text(), "another model's answers do not count"


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
