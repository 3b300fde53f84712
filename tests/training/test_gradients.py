"""Gradients of several processes: in one sum, or in buckets that are under way during the backward pass."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.trainings import make_trainer
from started.programs import FORKSERVER, PRELOADED

from cleangpt.machine import distributed
from cleangpt.sharding.flat import Gradients

SIZE = 3
STEPS = 4
ACCUMULATED = 2 * 2  # micro-steps, and parts of each


WAYS = {"whole": (False, None), "cut": (True, None), "left": (True, 1)}  # whether in buckets, and who leaves a step


def process(rank: int, folder: str) -> None:
    """Be one of several: train in each of these ways, and write down what came of it."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(SIZE)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", SIZE), rank=rank, world_size=SIZE)
    for name, (buckets, leaves) in WAYS.items():
        torch.save(train(rank, Path(folder) / name, buckets, leaves), f"{folder}/{name}.{rank}")
    distributed.stop()


def train(rank: int, folder: Path, buckets: bool, leaves: int | None) -> dict:
    """Make a training; process `leaves` is asked to stop in step 2."""
    Gradients.SMALL, Gradients.BUCKET = (0, 2000) if buckets else (1 << 24, 1 << 23)
    words = ("optimizer=adamw", "schedule.grad_accum.begin=2", "train.micro_batch_size=2", "train.batch_size=9")
    trainer = make_trainer(folder / str(rank), *words)
    begun, backward = [0], torch.Tensor.backward
    begin_sum = distributed.begin_sum

    def counted(part):
        begun[-1] += 1
        return begin_sum(part)

    def watched(loss):
        begun.append(0)
        backward(loss)
        begun.append(0)  # what begins after it is not under way during it

    distributed.begin_sum, torch.Tensor.backward = counted, watched
    losses = []
    for step in range(1, STEPS + 1):
        trainer.stop.number = 15 if rank == leaves and step == 2 else 0
        row, _ = trainer.step(trainer.state.step + 1)
        losses.append(None if row is None else row["train/loss"])
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    distributed.begin_sum, torch.Tensor.backward = begin_sum, backward
    return {"losses": losses, "weights": weights, "begun": begun, "buckets": len(trainer.gradients.buckets)}


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Collect what each process found, for each way."""
    folder = tmp_path_factory.mktemp("gradients")
    FORKSERVER.set_forkserver_preload(PRELOADED)
    torch.multiprocessing.start_processes(process, (str(folder),), nprocs=SIZE, start_method="forkserver")
    return {name: [torch.load(folder / f"{name}.{rank}", weights_only=True) for rank in range(SIZE)] for name in WAYS}


def test_buckets_give_what_one_sum_gives_and_begin_during_the_last_backward_pass(ways):
    whole, cut = ways["whole"], ways["cut"]
    assert whole[0]["buckets"] == 0
    for one, other in zip(whole, cut, strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-6)
        torch.testing.assert_close(other["weights"], one["weights"], rtol=1e-4, atol=1e-6)
        assert torch.equal(other["weights"], cut[0]["weights"]), "all processes have the same weights"
        during = other["begun"][1::2]
        assert len(during) == STEPS * ACCUMULATED
        assert set(during[3::ACCUMULATED]) == {other["buckets"]}, "all of them, in the last pass of each step"
        assert sum(other["begun"]) == STEPS * other["buckets"], "and none besides"
    assert cut[0]["buckets"] > 3


def test_a_process_that_drops_a_step_does_not_hold_the_others_up(ways):
    whole, left = ways["whole"], ways["left"]
    for one, other in zip(whole, left, strict=True):
        assert other["losses"][1] is None, "the step was dropped, by all of them"
        done = [other["losses"][0], *other["losses"][2:]]
        assert done == pytest.approx(one["losses"][: STEPS - 1], rel=1e-6), "and made whole afterwards"
        assert torch.equal(other["weights"], left[0]["weights"])
