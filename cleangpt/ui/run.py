"""One command of `cleangpt ui`: opens an address for the page, until it is interrupted."""

import os
import webbrowser

from cleangpt.basics import extras
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.config import composition
from cleangpt.config.programs import UiConfig
from cleangpt.serving.guard import LOOPBACK
from cleangpt.terminal import patience

GENTLE = 5  # how far it stands back where the cores have enough to do


def ui(settings: UiConfig) -> int:
    with patience.doing("Loading the server"):
        try:
            from cleangpt.serving import address
            from cleangpt.ui import app

            app.plotly_path()
        except ImportError:
            raise UserError(f"the page needs starlette, uvicorn and plotly: `{extras.command('ui')}`") from None
        from cleangpt.report.collect import folders
        from cleangpt.ui.live import Live
        from cleangpt.ui.models import Models
    if not hasattr(os, "setsid"):
        raise UserError("the page needs Linux or macOS (on Windows, WSL)")
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # models share the cores with trainings, which lose more than they win
    os.nice(GENTLE)
    live = Live(folders(settings.runs))
    found = address.bound(settings.host, settings.port)
    token = address.token_for(settings.host, settings.token)
    models = Models(live, composition.defaults("sample") | {"device": settings.device}, settings.waiting)
    try:
        with patience.doing("Looking for runs"):
            live.refresh()
        url = address.url(settings.host, found)
        _say(settings, url, len(live.rows), token)
        if settings.open:
            webbrowser.open(url if token is None else f"{url}/?token={token}")
        hosts = address.names(settings.host, settings.hosts)
        return address.serve(app.build(live, models, hosts, token), found)
    finally:
        models.close()
        found.close()


def _say(settings: UiConfig, url: str, runs: int, token: str | None) -> None:
    print(f"{counted(runs, 'run')} at {url}" + (f"/?token={token}" if token else ""), flush=True)
    if settings.host not in LOOPBACK:
        print("Whoever can reach this address and has the token can use the page. Nothing is encrypted.", flush=True)
    print("Ctrl-C ends it.", flush=True)
