"""Screenshots of the page in the browser, over the runs of docs/pictures.py."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZE = {"width": 1180, "height": 760}


def draw(folder: Path, pictures: Path) -> None:
    """Take a screenshot of each page, where there is a chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no chromium: docs/pictures/ui_*.png stay as they are")
        return
    from playwright.sync_api import sync_playwright

    command = [sys.executable, str(ROOT / "eval" / "ui.py"), f"runs={folder.relative_to(ROOT)}", "port=0", "device=cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                _take(browser.new_page(viewport=SIZE), address, pictures)
                browser.close()
        finally:
            server.terminate()


def _take(page: Any, address: str, pictures: Path) -> None:
    from PIL import Image

    def keep(name: str, height: int = SIZE["height"]) -> None:
        page.set_viewport_size({**SIZE, "height": height})
        page.mouse.move(0, 0)
        page.wait_for_timeout(800)
        with tempfile.TemporaryDirectory() as made:
            page.screenshot(path=f"{made}/shot.png")
            Image.open(f"{made}/shot.png").convert("RGB").save(pictures / name, optimize=True)

    rows = "main tbody tr"
    page.goto(address)
    page.wait_for_selector(rows)
    for box in page.locator(f"{rows}:has-text('tour') input[type=checkbox]").all():
        box.check()
    keep("ui_runs.png", 460)
    page.goto(f"{address}/#/curves?key=val/loss&key=val/accuracy&key=train/loss&key=lr&bands=1")
    page.wait_for_selector(".chart .main-svg >> nth=3")
    keep("ui_curves.png", 860)
    page.goto(f"{address}/#/compare")
    page.wait_for_selector("h2:has-text('Runs')")
    keep("ui_compare.png", 820)
    page.goto(f"{address}/#/runs")
    page.locator(rows, has=page.locator("td.c-run", has_text="coupled")).locator("a").first.click()
    page.wait_for_selector("details.score")
    page.locator("summary", has_text="test_best_sets").click()
    heat = page.locator("details.score", has=page.locator("> summary", has_text="the set grid")).last
    heat.locator("table.heat").first.evaluate("table => table.scrollIntoView({block: 'end'})")
    page.evaluate("() => scrollBy(0, 60)")
    keep("ui_run.png", 860)
    page.goto(f"{address}/#/runs")
    page.locator(rows, has=page.locator("td.c-run", has_text="0000_optimizer=adamw")).locator("a").first.click()
    page.wait_for_selector("details.score")
    page.locator("a.button", has_text="Playground").click()
    page.wait_for_selector("form.prompt textarea")
    page.fill("form.prompt textarea", "27+58")
    page.click("button:has-text('Write')")
    page.wait_for_selector(".verdict", timeout=60_000)
    page.locator(".token").nth(1).click()
    page.click("text=Ask 10")
    page.wait_for_selector(".answers li >> nth=9", timeout=60_000)
    page.evaluate("() => scrollTo(0, 0)")
    keep("ui_play.png", 1120)
