"""Faults of snapshots that several processes write together, for the fault injection."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from attacks.faults_of_torchrun import UnderTorchrun
from attacks.interrupted import ROOT, last_logged
from cleangpt.disk.rundir import RunDir
from cleangpt.snapshots import snapshot
from cleangpt.stored import pieces

COUNT, STEP = 3, 15  # processes, and the step of the snapshot that is meddled with
SHARDS = [pieces.shard_name(place, COUNT) for place in range(COUNT)]
FILES = [*SHARDS, "state.json", "config.json", "tokenizer.json", "best.safetensors", "manifest.json"]


class OfShards(UnderTorchrun):
    """A model that is divided among three processes: each file of a snapshot, as it is written and when it is there."""

    def __init__(self, folder: Path, seed: int):
        super().__init__(folder, seed, "", "train.shard=full")
        self.stopped = folder / "stopped"  # with two snapshots
        script = self._script(self.stopped, "", "at_step(25, lambda: os.kill(os.getpid(), signal.SIGTERM))")
        assert self.start(self.stopped, script=script).wait() != 0
        self.newest = int(RunDir(self.stopped).snapshot_folders()[-1].name.removeprefix("step_"))

    def _script(self, folder: Path, name: str, what: str) -> Path:
        script = folder.with_suffix(".py")
        script.write_text(MEDDLING.format(root=str(ROOT), name=name, step=STEP, what=what, mark=str(_mark(folder))))
        return script

    def killed(self) -> None:
        """SIGKILL for the rank that is writing a file, and for torchrun and that rank."""
        for name in FILES:
            folder = self.new()
            script = self._script(folder, name, "half_of_it(lambda: None)")
            status = self.start(folder, script=script, launcher=self.RESTARTS).wait()
            self.judge("a rank killed while it writes a shard's snapshot", folder, status, 0, _mark(folder).exists())
            folder = self.new()
            script = self._script(folder, name, "half_of_it(lambda: os.kill(os.getppid(), signal.SIGKILL))")
            self.start(folder, "resume=auto", script=script).wait()
            time.sleep(1)
            there = RunDir(folder).snapshot_folders()
            honest = all(snapshot.damage(path) is None for path in there)
            lost = last_logged(folder) - max((int(path.name.removeprefix("step_")) for path in there), default=0)
            status = self.start(folder, "resume=auto").wait()
            self.judge(
                "all killed while a shard is written", folder, status or not honest, lost, _mark(folder).exists()
            )

    def full(self) -> None:
        """A disk without room on one node: there is no such snapshot, and training goes on."""
        for name in SHARDS:
            folder = self.new()
            status = self.start(folder, script=self._script(folder, name, "no_room()")).wait()
            log = (folder / "train.log").read_text()
            said = f"the snapshot of step {STEP} could not be written (No space left on device" in log
            self.judge("no room for one of three shards", folder, status or not said, 0, _mark(folder).exists())

    def damaged(self) -> None:
        """Files of the newest snapshot that are missing, changed, or of another step."""

        def flipped(path: Path) -> None:
            data = bytearray(path.read_bytes())
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)

        def older(path: Path) -> None:
            others = sorted(path.parent.parent.glob(f"step_*/{path.name}"))
            shutil.copy(others[0], path)

        ways: dict[str, Callable[[Path], None]] = {"missing": Path.unlink, "flipped": flipped, "of another step": older}
        for kind, change in ways.items():
            for name in SHARDS:
                folder = self.new()
                shutil.copytree(self.stopped, folder)
                change(folder / "snapshots" / f"step_{self.newest:08d}" / name)
                status = self.start(folder, "resume=auto").wait()
                aside = (folder / "snapshots" / f"damaged_step_{self.newest:08d}").exists()
                self.judge(f"one of three shards {kind}", folder, status or not aside, 0, True)


def _mark(folder: Path) -> Path:
    return folder.with_suffix(".meddled")


MEDDLING = """
import errno, io, os, runpy, signal, sys
sys.path.insert(0, {root!r})
from cleangpt.basics import files
from cleangpt.training.loop import Trainer
real, mark = files.replace, {mark!r}
def is_it(path):
    return path.name == {name!r} and ".step_{step:08d}." in str(path) and not os.path.exists(mark)
def half_of_it(before):
    def replace(path, write):
        def half(file):
            open(mark, "w").close()
            whole = io.BytesIO()
            write(whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            before()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, half if is_it(path) else write)
    files.replace = replace
def no_room():
    def replace(path, write):
        if is_it(path):
            open(mark, "w").close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, write)
    files.replace = replace
def at_step(wanted, act):
    step = Trainer.step
    def stepping(self, number):
        if number == wanted and os.environ["RANK"] == "1":
            act()
        return step(self, number)
    Trainer.step = stepping
{what}
sys.argv[0] = {root!r} + "/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
