"""A model behind an address, as a user starts it."""

import re
import subprocess
import sys

from started.programs import ROOT, environment


class Served:
    """A server of ours."""

    def __init__(self, folder, *words):
        self.folder = folder
        command = [sys.executable, ROOT / "serve.py", f"run={folder}", "port=0", "device=cpu", "dtype=float32", *words]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        self.said = []
        while not (self.said and self.said[-1].startswith("Ctrl-C")):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.said.append(line.strip())
        self.address, self.model = re.search(r"(http://\S+/v1) has the model (.*)", "\n".join(self.said)).groups()

    def close(self):
        self.process.terminate()
        return self.process.wait(timeout=60)
