"""The page over some folder, as a user starts it, and what a test asks of its routes."""

import json
import re
import subprocess
import sys

from started.programs import ROOT, environment


class Paged:
    """A server of the page."""

    def __init__(self, folder, *words):
        command = [sys.executable, ROOT / "eval" / "ui.py", f"runs={folder}", "port=0", "device=cpu", *words]
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=folder.parent,
        )
        self.said = []
        while not (self.said and self.said[-1].startswith("Ctrl-C")):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.said.append(line.strip())
        port = re.search(r"http://\S+:(\d+)", "\n".join(self.said))[1]
        self.address = f"http://127.0.0.1:{port}"

    def close(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


def log(folder, steps, **more):
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(
                json.dumps(
                    {
                        "step": step,
                        "train/loss": 1 / step,
                        "val/loss": 1 / step,
                        "tokens": 10 * step,
                        "seconds": step,
                        **more,
                    }
                )
                + "\n"
            )


def rows(found):
    return {row["name"]: row for row in found["rows"]}


def curve(page, *names, **asked):
    found = page.get("/api/curves", ids=",".join(map(page.number, names)), **{"key": "val/loss", **asked})
    return found[0] if len(names) == 1 and found else found
