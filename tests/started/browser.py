"""What tests do in a real browser."""

import shutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOON = 30_000  # milliseconds


def go(tab, served, where="", wait="main h1"):
    tab.goto(f"{served.address}/{where}")
    tab.wait_for_selector(wait)


def number_of(tab, name):
    return tab.locator("main tbody tr", has_text=name).get_attribute("data-id")


def number_of_run(tab, name):
    found = "async name => (await (await fetch('/api/runs')).json()).rows.find(row => row.name === name).id"
    return tab.evaluate(found, name)
