"""A snapshot that several processes write: all of it is there and right, or nothing of it is used."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from helpers.trainings import make_trainer

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.disk import weights
from cleangpt.disk.rundir import RunDir, find
from cleangpt.machine import launcher
from cleangpt.sharding.parts import rows_of
from cleangpt.snapshots import saving, snapshot, together
from cleangpt.snapshots.state import State
from cleangpt.stored import pieces, tensorfile

COUNT = 3
# A matrix whose rows don't divide, one with fewer rows than processes, a vector that the first one keeps, and a number.
TENSORS = {
    "head.weight": torch.arange(7 * 5.0).view(7, 5),
    "small.weight": torch.arange(4.0).view(1, 4),
    "norm.weight": torch.arange(3.0),
    "head.weight/mean": -torch.arange(7 * 5.0).view(7, 5),
    "head.weight/step": torch.tensor(4.0),
}


def copies(number: int) -> list[saving.Copy]:
    found = []
    for place in range(COUNT):
        tensors, places = {}, {}
        for name, whole in TENSORS.items():
            if whole.dim() == 2:
                first, end = rows_of(len(whole), place, COUNT)
                if end > first:
                    tensors[name], places[name] = whole[first:end], {"first": first, "shape": list(whole.shape)}
            elif place == 0:
                tensors[name] = whole
        found.append(saving.Copy(tensors, {}, places, together.Together(place, COUNT, number)))
    return found


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Make a run whose threads stand for processes."""
    trainer = make_trainer(tmp_path / "run")
    trainer.tracker.close()
    trainer.writer.close()
    monkeypatch.setattr(launcher, "_store", dist.HashStore())
    return trainer


def written(trainer, step=4, number=0) -> list[BaseException | None]:
    """Have all processes write a snapshot; what went wrong in each."""
    asked = State(step=step), trainer.config, trainer.task.tokenizer
    with ThreadPoolExecutor(COUNT) as threads:
        told = [threads.submit(saving.save, trainer.run, one, *asked) for one in copies(number)]
        return [one.exception(timeout=60) for one in told]


@pytest.fixture
def folder(trained):
    assert written(trained) == [None] * COUNT
    return trained.run.snapshots / "step_00000004"


def test_it_is_there_at_once_and_whole(folder):
    assert snapshot.damage(folder) is None
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "manifest.json",
        *(pieces.shard_name(place, COUNT) for place in range(COUNT)),
        "state.json",
        "tokenizer.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no hidden folder is left"
    stored = pieces.Stored(pieces.shards(folder), in_pieces=True)
    for name, whole in TENSORS.items():
        assert stored.shapes[name] == whole.shape
        assert torch.equal(stored.rows(name), whole)
    for first in range(8):
        for end in range(first, 8):
            assert torch.equal(stored.rows("head.weight", first, end), TENSORS["head.weight"][first:end])
    found = weights.Weights(folder)
    assert found.shapes.keys() == {"head.weight", "small.weight", "norm.weight"}, "what is remembered is no weight"
    assert weights.step(folder) == 4
    assert find(str(folder)).folder == folder


def test_one_that_is_there_is_left_as_it_is(trained, folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert written(trained, number=1) == [None] * COUNT
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("place", range(COUNT))
def test_a_file_that_is_missing_is_noticed(folder, place):
    (folder / pieces.shard_name(place, COUNT)).unlink()
    assert pieces.shard_name(place, COUNT) in snapshot.damage(folder)
    with pytest.raises(UserError, match=f"lacks {pieces.shard_name(place, COUNT)}"):
        weights.Weights(folder)
    good, complaints = snapshot.newest_good(RunDir(folder.parent.parent))
    assert good is None
    assert "kept aside as damaged_step_00000004" in complaints[0]


@pytest.mark.parametrize("place", range(COUNT))
def test_a_flipped_bit_is_noticed(folder, place):
    path = folder / pieces.shard_name(place, COUNT)
    data = bytearray(path.read_bytes())
    data[-2] ^= 4
    path.write_bytes(data)
    assert snapshot.damage(folder) == f"{path.name} has another checksum"


def signed(folder) -> None:
    """Make the manifest anew, as one who wants it to look right would."""
    listed = [path for path in folder.iterdir() if path.name != snapshot.MANIFEST]
    entries = {path.name: {"bytes": path.stat().st_size, "sha256": files.sha256(path)} for path in listed}
    (folder / snapshot.MANIFEST).write_text(json.dumps({"step": 4, "files": entries}))


@pytest.mark.parametrize("place", range(COUNT))
def test_files_of_two_steps_are_not_mixed(trained, folder, place):
    assert written(trained, step=5, number=1) == [None] * COUNT
    name = pieces.shard_name(place, COUNT)
    (folder / name).write_bytes((folder.with_name("step_00000005") / name).read_bytes())
    assert "has another checksum" in snapshot.damage(folder)
    signed(folder)
    assert "it is of step" in snapshot.damage(folder)
    with pytest.raises(UserError, match="it is of step"):
        weights.Weights(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda about: about["pieces"]["head.weight"].update(first=2), "each row of head.weight once"),
        (lambda about: about["pieces"]["head.weight"].update(first=4), "each row of head.weight once"),
        (lambda about: about["pieces"]["head.weight"].update(first=-3), "no rows of anything"),
        (lambda about: about["pieces"]["head.weight"].update(first=True), "no rows of anything"),
        (lambda about: about["pieces"]["head.weight"].update(first=5), "no part of what it says"),
        (lambda about: about["pieces"]["head.weight"].update(shape=[10**15, 5]), "of another tensor"),
        (lambda about: about["pieces"]["head.weight"].update(shape=[7, 6]), "no part of what it says"),
        (lambda about: about["pieces"]["head.weight"].update(shape=[]), "no part of what it says"),
        (lambda about: about["pieces"].pop("head.weight"), "of another tensor"),
        (lambda about: about["pieces"].update({"head.weight": 3}), "no rows of anything"),
        (lambda about: about["pieces"]["head.weight"].update(shape=3), "no rows of anything"),
        (lambda about: about["pieces"]["head.weight"].pop("first"), "no rows of anything"),
        (lambda about: about.update(pieces=[1]), "does not say where its rows belong"),
        (lambda about: about.update(pieces=None), "does not say where its rows belong"),
        (lambda about: about.update(step="4"), "it is of step"),
    ],
)
def test_a_header_that_does_not_fit_the_others_is_refused(folder, change, says):
    path = folder / pieces.shard_name(1, COUNT)
    with tensorfile.opened(path) as file:
        about = json.loads(file.metadata()["cleangpt"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 it is no dict
    change(about)
    path.unlink()
    files.replace(path, lambda file: tensorfile.write(file, tensors, {"cleangpt": json.dumps(about)}))
    signed(folder)
    assert says in snapshot.damage(folder)
    with pytest.raises(UserError, match=says):
        weights.Weights(folder)


def test_a_whole_tensor_in_two_files_is_refused(folder):
    path = folder / pieces.shard_name(2, COUNT)
    about = {"cleangpt": json.dumps({"step": 4, "pieces": {}})}
    files.replace(path, lambda file: tensorfile.write(file, {"norm.weight": TENSORS["norm.weight"]}, about))
    with pytest.raises(UserError, match=r"each row of head\.weight once"):
        weights.Weights(folder)
    files.replace(path, lambda file: tensorfile.write(file, {"head.weight/step": torch.tensor(4.0)}, about))
    with pytest.raises(UserError, match="once"):
        pieces.Stored([folder / pieces.shard_name(0, COUNT), path], in_pieces=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "best.safetensors"])
@pytest.mark.parametrize("is_signed", [False, True])
def test_other_tensors_beside_the_pieces_are_not_taken(folder, name, is_signed):
    files.replace(folder / name, lambda file: tensorfile.write(file, {"head.weight": TENSORS["head.weight"]}))
    assert snapshot.damage(folder) == f"manifest.json does not list {name}"
    if name == "model.safetensors":
        with pytest.raises(UserError, match="holds weights twice"):
            weights.Weights(folder)
    if is_signed and name != "best.safetensors":
        signed(folder)
        assert snapshot.damage(folder) == "manifest.json lists tensors twice, whole and in pieces"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder):
    path = folder / pieces.shard_name(1, COUNT)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is no file"):
        weights.Weights(folder)
    with pytest.raises(UserError, match="it is no file"), tensorfile.opened(path):
        pass
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    assert "manifest.json can't be read" in snapshot.damage(folder)


def test_what_says_that_it_is_a_piece_is_not_believed_where_nothing_is_in_pieces(folder):
    path = folder / pieces.shard_name(0, COUNT)
    assert pieces.Stored([path], in_pieces=False).shapes["head.weight"] == (3, 5)


def test_a_snapshot_of_which_one_process_can_not_write_its_part_is_discarded(trained, monkeypatch):
    real = tensorfile.write

    def write(file, tensors, metadata=None):
        if "small.weight" not in tensors and "norm.weight" not in tensors and "head.weight" in tensors:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, tensors, metadata)

    monkeypatch.setattr(tensorfile, "write", write)
    told = written(trained)
    assert isinstance(told[0], OSError)
    assert "No space left on device, on process" in str(told[0])
    assert told[1:] == [None, None]
    assert list(trained.run.snapshots.iterdir()) == []
    monkeypatch.setattr(tensorfile, "write", real)
    assert written(trained, number=1) == [None] * COUNT, "and the next one is written"


def test_where_the_first_process_can_not_write_the_others_are_told(trained):
    trained.run.snapshots.write_text("a file where the folder should be")
    told = written(trained)
    assert isinstance(told[0], OSError)
    assert told[1:] == [None, None]


def test_nobody_is_waited_for_for_ever(trained, monkeypatch):
    monkeypatch.setattr(together, "LONG", 0.2)
    with pytest.raises(OSError, match="another process did not do its part"):
        saving.save(trained.run, copies(0)[0], State(step=4), trained.config, trained.task.tokenizer)
    assert list(trained.run.snapshots.iterdir()) == []
    with pytest.raises(OSError, match="another process did not do its part"):
        saving.save(trained.run, copies(7)[1], State(step=4), trained.config, trained.task.tokenizer)
