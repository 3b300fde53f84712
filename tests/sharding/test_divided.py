"""A model that is divided among processes is the same experiment: first weights, steps, evaluations, snapshots."""

import contextlib
import fcntl
import json
import os
import pickle
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.trainings import composed, make_trainer
from safetensors.torch import load_file
from started.programs import FORKSERVER, PRELOADED
from torch.profiler import ProfilerActivity, profile

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.disk import weights
from cleangpt.disk.rundir import read_metrics
from cleangpt.machine import distributed, launcher
from cleangpt.memory import least, need
from cleangpt.memory.imagined import Step, imagine
from cleangpt.sharding.parts import rows_of
from cleangpt.snapshots import snapshot
from cleangpt.stored import pieces
from cleangpt.stored.pieces import Stored

STEPS = 6
COMMON = ("train.batch_size=9", "train.steps=6", "schedule.grad_accum.style=linear", "schedule.grad_accum.end=3")
COMMON += ("train.eval_every=3", "train.snapshot_every=3", "train.log_every=1", "dataset.val_size=20", "logger=quiet")
# Each is trained whole in one process, and divided among two and three, also in groups that repeat each other.
KINDS = {
    "adamw": ("model=llama", "optimizer=adamw", "train.freeze=[token_embedding,blocks.0]", "train.grad_clip=0.1"),
    "muon": ("model=llama", "optimizer=muon", "train.micro_batch_size=2", "logger.norms=2"),
    "gpt": ("model=gpt", "optimizer=muon", "model.dropout=0.0", "train.activation_checkpointing=true"),
    "vectors": ("model=llama", "optimizer=adamw", "train.freeze=[*embedding,head,'blocks.*.attention','blocks.*.mlp']"),
    "tied": ("model=llama", "optimizer=muon", "model.tied=true", "model.qk_norm=true", "model.bigram_embedding=7"),
}
BEFORE = {"two": "whole/muon", "three": "two/again", "copies": "three/again"}  # whose snapshots are kept once more
PLACES = {"two": (2, None), "three": (3, None), "copies": (2, 1)}  # processes, and how many of them divide a model


def be(rank: int, folder: str, size: int, group: int | None, port: int) -> None:
    """Be one of several processes: train each kind, and resume one of them."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", size), rank=rank, world_size=size)
    own = ("train.shard=full", f"train.shard_group={group or 'null'}")
    for name, words in KINDS.items():
        if group is None or name == "muon":
            _train(Path(folder) / name, *words, *own)
    around = Path(folder).parent
    for name, source in (("muon_resumed", around / "two"), ("again_resumed", around / "whole")):
        _resume(Path(folder) / name, source / "muon", *KINDS["muon"], *own)
    _train(Path(folder) / "bfloat16", *KINDS["adamw"], "dtype=bfloat16", *own)
    _train(Path(folder) / "bfloat16_whole", *KINDS["adamw"], "dtype=bfloat16")
    _keep_again(Path(folder) / "again", around / BEFORE[Path(folder).name], *own)
    _is_asked_to_stop(Path(folder) / "stopped", rank, *KINDS["muon"], *own)
    if size == 3:
        _train(Path(folder) / "begun", *KINDS["adamw"], *own, f"init_from={around / 'whole' / 'adamw' / 'final'}")
    elif group is None:
        _takes_memory(Path(folder) / "memory", rank, *own)
        _remembers_what_is_no_part(Path(folder) / "no_part", rank, *KINDS["adamw"], *own)
    distributed.stop()


def _train(folder: Path, *words: str, source: Path | None = None) -> None:
    rank = launcher.world().rank
    trainer = make_trainer(folder if rank == 0 else folder / f"of_{rank}", *COMMON, *words, snapshot=source)
    if source is None:
        trainer.save_weights(trainer.run.path / "first")
    trainer.fit()
    trainer.save_weights(trainer.run.final)
    trainer.finish_writing()
    trainer.tracker.close()
    trainer.writer.close()


def _resume(folder: Path, source: Path, *words: str) -> None:
    if launcher.world().rank == 0:
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("step_00000006", "final", "first", "of_*"))
    distributed.gather(None)
    with _nothing_unpickled(folder / "snapshots" / "step_00000003"):
        _train(folder, *words, source=folder / "snapshots" / "step_00000003")


@contextlib.contextmanager
def _nothing_unpickled(snapshot: Path) -> Iterator[None]:
    """Have whatever would run code from files fail, and lay down what torch's own checkpoints would unpickle."""

    def refuse(*_arguments, **_more):
        raise AssertionError("something was unpickled")

    (snapshot / ".metadata").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
            patch.setattr(module, name, refuse)
        yield


def _keep_again(folder: Path, source: Path, *words: str) -> None:
    """Read a snapshot and write it at once."""
    place, rank = source / "snapshots" / "step_00000003", launcher.world().rank
    trainer = make_trainer(folder / f"of_{rank}" if rank else folder, *COMMON, *KINDS["muon"], *words, snapshot=place)
    trainer.snapshot()
    trainer.finish_writing()
    trainer.tracker.close()
    trainer.writer.close()


def _is_asked_to_stop(folder: Path, rank: int, *words: str) -> None:
    """Have one process be asked to stop within a step, which all of them finish."""
    trainer = make_trainer(folder if rank == 0 else folder / f"of_{rank}", *COMMON, *words)
    steps = []
    for _ in range(2):
        trainer.stop.number = 15 if rank == 1 else 0
        row, stops = trainer.step(trainer.state.step + 1)
        steps.append((row is not None, stops))
    everyone = distributed.gather(steps)
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(everyone))
    trainer.tracker.close()
    trainer.writer.close()


def _remembers_what_is_no_part(folder: Path, rank: int, *words: str) -> None:
    trainer = make_trainer(folder / f"of_{rank}", *COMMON, *words)
    remembered = {"head.weight/columns": torch.zeros(3), "head.weight/step": torch.tensor(1.0)}
    with pytest.raises(UserError, match=r"head\.weight/columns is \(3,\), which is no part of"):
        trainer.divided.held(remembered)
    trainer.tracker.close()
    trainer.writer.close()


LARGER = ("model=llama", "model.n_embd=256", "model.n_layer=4", "optimizer=adamw", "train.batch_size=48")


def _takes_memory(folder: Path, rank: int, *words: str) -> None:
    """Ask torch's allocator what the first step takes at most, beside what is there before it."""
    trainer = make_trainer(folder / f"of_{rank}", *COMMON, *LARGER, *words)
    trainer.step(1)
    parts = [parameter for _, parameter in trainer.divided.named_parameters()]
    kept = [*parts, *(part.grad for part in parts if part.grad is not None)]
    kept += [value for state in trainer.optimizer.state.values() for value in state.values()]
    kept_bytes = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as measured:
        trainer.step(2)
    measured.export_chrome_trace(str(folder / f"of_{rank}" / "trace.json"))
    (folder / f"of_{rank}" / "kept.json").write_text(json.dumps(kept_bytes))
    trainer.tracker.close()
    trainer.writer.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train all of it; the folder of each place has a run of each kind. Of several workers of pytest one does it."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    with (place / "divided.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "divided" / "done").exists():
            _train_all(place / "divided")
            (place / "divided" / "done").touch()
    return place / "divided"


def _train_all(folder: Path) -> None:
    for name, words in KINDS.items():
        _train(folder / "whole" / name, *words)
    FORKSERVER.set_forkserver_preload(PRELOADED)
    for place, (size, group) in PLACES.items():
        (folder / place).mkdir(parents=True)
        asked = (str(folder / place), size, group, free_port())
        torch.multiprocessing.start_processes(be, asked, nprocs=size, start_method="forkserver")


def values(folder: Path, key: str) -> list[float]:
    return [row[key] for row in read_metrics(folder / "metrics.jsonl") if key in row]


@pytest.mark.parametrize(
    ("place", "kind"), [(place, kind) for place in PLACES for kind in KINDS if place != "copies" or kind == "muon"]
)
def test_it_is_the_same_experiment(trained, place, kind):
    whole, divided = trained / "whole" / kind, trained / place / kind
    first, ours = (load_file(path / "first" / weights.WEIGHTS) for path in (whole, divided))
    assert first.keys() == ours.keys()
    assert all(torch.equal(first[name], ours[name]) for name in first), "the first weights have the same bits"
    assert len(values(divided, "train/loss")) == STEPS
    for key in ("train/loss", "val/loss", "grad_norm"):
        assert values(divided, key) == pytest.approx(values(whole, key), rel=1e-5), key
    assert values(divided, "val/accuracy") == values(whole, "val/accuracy")
    norms = [key for row in read_metrics(whole / "metrics.jsonl") for key in row if "_norm/" in key]
    assert bool(norms) == (kind == "muon")
    for key in norms:
        assert values(divided, key) == pytest.approx(values(whole, key), rel=1e-3), key
    one, other = (load_file(path / "final" / weights.WEIGHTS) for path in (whole, divided))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=2e-5)
    if kind == "vectors":
        trained_ones = {name for name in ours if not torch.equal(other[name], ours[name])}
        assert trained_ones == {name for name in ours if ours[name].dim() == 1}, "matrices alone are divided"
    if kind == "adamw":
        assert all(torch.equal(other[name], ours[name]) for name in ours if name.startswith(("token", "blocks.0")))


def kept(folder: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Read weights and what the optimizer remembers of a snapshot, whole or in pieces."""
    folder = folder / "snapshots" / f"step_{step:08d}"
    files = pieces.shards(folder)
    groups = [files] if files else [[folder / "model.safetensors"], [folder / "optimizer.safetensors"]]
    found = [Stored(group, in_pieces=bool(files)) for group in groups]
    return {name: stored.rows(name) for stored in found for name in stored.shapes}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("place", PLACES)
def test_each_process_writes_its_rows_and_any_number_of_them_reads_them_again_to_the_bit(trained, place):
    parts = PLACES[place][1] or PLACES[place][0]
    folder = trained / place / "again" / "snapshots" / "step_00000003"
    assert [path.name for path in pieces.shards(folder)] == [pieces.shard_name(n, parts) for n in range(parts)]
    assert snapshot.damage(folder) is None
    expected, found = kept(trained / "whole" / "muon", 3), kept(trained / place / "again", 3)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    trainer = make_trainer(trained / f"alone_{place}", *COMMON, *KINDS["muon"], snapshot=folder)
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
    assert all(torch.equal(weights.read(folder)[name], expected[name]) for name in trainer.model.state_dict())
    trainer.tracker.close()
    trainer.writer.close()


@pytest.mark.parametrize("place", PLACES)
def test_any_number_of_processes_goes_on_from_a_snapshot(trained, place):
    """`muon_resumed` goes on from a snapshot of two processes, `again_resumed` from one of a whole run."""
    went_on = trained / "two" / "muon"
    for name, source in (("muon_resumed", went_on), ("again_resumed", trained / "whole" / "muon")):
        resumed = trained / place / name
        assert values(resumed, "train/loss") == pytest.approx(values(source, "train/loss"), rel=1e-5)
        assert {key: value.shape for key, value in kept(resumed).items()} == {
            key: value.shape for key, value in kept(source).items()
        }
    if place == "two":
        ours, theirs = kept(trained / "two" / "muon_resumed"), kept(went_on)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), "as many processes: the same bits"
        files = [path / "final" / weights.WEIGHTS for path in (went_on, trained / "two" / "muon_resumed")]
        assert files[0].read_bytes()[-4000:] == files[1].read_bytes()[-4000:]


@pytest.mark.parametrize("place", PLACES)
def test_in_bfloat16_it_computes_what_whole_models_compute_on_as_many_processes(trained, place):
    divided, whole = (values(trained / place / name, "train/loss") for name in ("bfloat16", "bfloat16_whole"))
    assert divided[0] == whole[0], "the same bits, where weights have them"
    assert divided == pytest.approx(whole, rel=1e-4)
    norms = [values(trained / place / name, "grad_norm")[0] for name in ("bfloat16", "bfloat16_whole")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_a_run_begins_with_the_weights_of_another_of_which_each_process_reads_its_rows(trained):
    began = load_file(trained / "three" / "begun" / "first" / weights.WEIGHTS)
    source = load_file(trained / "whole" / "adamw" / "final" / weights.WEIGHTS)
    assert all(torch.equal(began[name], source[name]) for name in source)


def test_a_step_takes_the_memory_that_was_imagined(trained):
    folder = trained / "two" / "memory" / "of_0"
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    bytes_at = [event["args"] for event in events if event.get("name") == "[memory]"]
    before = bytes_at[0]["Total Allocated"] - bytes_at[0]["Bytes"]
    taken = (
        max(event["Total Allocated"] for event in bytes_at) - before + json.loads((folder / "kept.json").read_text())
    )
    config = experiment.parse(composed(*COMMON, *LARGER, "train.shard=full"))
    task = tasks.make(config.dataset, config.model.block_size)
    step = Step(experiment.resolve(config, task), need.samples(task), 24, 2, torch.float32, on_gpu=False)
    told = imagine(step)
    assert max(told.step, told.update) == pytest.approx(taken, rel=0.1)


@pytest.mark.parametrize("place", PLACES)
def test_a_step_is_finished_by_all_where_one_is_asked_to_stop(trained, place):
    told = json.loads((trained / place / "stopped" / "told.json").read_text())
    assert told == [[[True, True], [True, True]]] * len(told)


@pytest.mark.parametrize(("rows", "count"), [(1, 3), (4, 3), (14, 3), (15, 2), (6, 3), (2, 5)])
def test_each_row_lies_somewhere_once(rows, count):
    parts = [rows_of(rows, place, count) for place in range(count)]
    assert [row for first, end in parts for row in range(first, end)] == list(range(rows))
    chunks = torch.arange(rows).chunk(count)
    assert [end - first for first, end in parts if end > first] == [len(chunk) for chunk in chunks], "as torch does"


def test_an_optimizer_that_does_not_say_so_is_not_divided(monkeypatch):
    from cleangpt.optimizers import adamw, optim

    trainer_config = type("Config", (), {"layer_decay": 1.0, "name": "adamw"})()
    monkeypatch.delattr(adamw.AdamW, "divides")
    monkeypatch.setattr(optim.found, "module_of", lambda _: adamw)
    monkeypatch.setattr(optim, "parameter_groups", lambda *_: [])
    with pytest.raises(UserError, match=r"train\.shard=none"):
        optim.build(trainer_config, None, owners=object())


def test_a_divided_model_needs_less_memory(monkeypatch):
    from helpers.configs import toy

    from cleangpt.config.experiment import parse

    monkeypatch.setattr(least, "of", lambda _: 2_200_000)
    big = {"model.n_embd": 128, "model.n_layer": 1, "model.vocab_size": 20, "model.block_size": 12}
    big |= {"model.n_head": 4, "model.n_kv_head": 4, "model.head_dim": 32, "model.ffn_dim": 344}
    config = parse(toy("model=llama", **big))
    with pytest.raises(UserError, match=r"train\.shard=full"):
        least.refuse_too_large(config, 12, 4, torch.device("cpu"))
    least.refuse_too_large(parse(toy("model=llama", **big, **{"train.shard": "full"})), 12, 4, torch.device("cpu"))
