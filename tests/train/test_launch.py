"""Whole trainings as a user starts them: plain, under torchrun, on two nodes, with failing processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import run, start

from cleangpt.runs.rundir import read_metrics
from cleangpt.watch.health import OF_THE_MACHINE

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "train.py")
TOY = [
    "model=llama_tiny",
    "model.n_embd=16",
    "dataset.digits=2",
    "dataset.val_size=20",
    "train.steps=6",
    "train.batch_size=12",
    "train.eval_every=3",
    "train.log_every=1",
    "train.test_at_end=false",
    "logger=quiet",
    "dtype=float32",
]
UNEVEN = ["dataset.padded=false", "schedule.grad_accum.style=linear", "schedule.grad_accum.end=3"]

# A program in the place of train.py that does something to one rank first.
WRAPPER = f"""
import os, runpy, sys
rank, restart = int(os.environ.get("RANK", 0)), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
sys.path.insert(0, {str(ROOT)!r})
%s
sys.argv[0] = {TRAIN!r}
runpy.run_path({TRAIN!r}, run_name="__main__")
"""
FAIL = """
from cleangpt.train.loop import Trainer
real = Trainer.step
def step(self, number):
    if number == {step} and rank == {rank} and restart == 0:
        {action}
    return real(self, number)
Trainer.step = step
"""


def torchrun(processes, *more, script=TRAIN):
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *more, script]


def wrapper(tmp_path, body):
    path = tmp_path / "wrapper.py"
    path.write_text(WRAPPER % body)
    return str(path)


def losses(folder):
    return [row["train/loss"] for row in read_metrics(folder / "metrics.jsonl")]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def processes_in(folder):
    """Processes that still work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(process.name)
        except OSError:
            pass
    return found


def test_one_three_and_four_processes_give_the_same_losses(tmp_path):
    alone = run([sys.executable, TRAIN, *TOY, *UNEVEN, "hydra.run.dir=one"], tmp_path)
    assert alone.returncode == 0, alone.stderr
    whole = read_metrics(tmp_path / "one" / "metrics.jsonl")
    for size in (3, 4):
        done = run([*torchrun(size, "--standalone"), *TOY, *UNEVEN, f"hydra.run.dir=of{size}"], tmp_path)
        assert done.returncode == 0, done.stderr
        divided = read_metrics(tmp_path / f"of{size}" / "metrics.jsonl")
        assert len(divided) == len(whole) == 6
        for one, other in zip(whole, divided, strict=True):
            for key in ("train/loss", "grad_norm", "val/loss", "val/accuracy"):
                if key in one:
                    assert other[key] == pytest.approx(one[key], rel=2e-5), (one["step"], key)
            for key in ("step", "lr", "grad_accum", "batch", "tokens"):
                assert other[key] == one[key]
        about = json.loads((tmp_path / f"of{size}" / "run.json").read_text())
        assert about["world_size"] == size


def test_a_run_directory_has_what_the_design_promises(tmp_path):
    done = run([sys.executable, TRAIN, *TOY, "train.test_at_end=true", "logger=default"], tmp_path, real=True)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "adder-llama_tiny").iterdir()
    assert (tmp_path / "outputs" / "latest").resolve() == folder
    for name in ("config.json", "run.json", "summary.json"):
        assert json.loads((folder / name).read_text())
    for place in ("best", "final", "snapshots/step_00000006"):
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (folder / place / name).exists(), (place, name)
    for name in ("loss.png", "accuracy.png", "schedule.png"):
        assert (folder / "plots" / name).read_bytes().startswith(b"\x89PNG")
    rows = read_metrics(folder / "metrics.jsonl")
    assert {"step", "train/loss", "lr", "tokens", "tokens_per_second", "seconds"} <= set(rows[0])
    assert {"step", "seconds", "val/loss", "val/accuracy"} <= set(rows[2])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["step"] == 6
    wanted = {"train/loss", "val/loss", "best/val/loss", "best/step", "test/accuracy", "tokens", "tokens_per_second"}
    assert wanted | {"seconds"} <= set(summary)
    (score,) = (folder / "score").glob("*.json")
    assert json.loads(score.read_text())["accuracy"] == summary["test/accuracy"]
    log = (folder / "train.log").read_text()
    assert "step 3: val/loss" in log
    assert "eval/score.py run=" in log
    card = (folder / "card.md").read_text()
    assert "Completed at step 6 of 6." in card
    assert "| `train.steps` | `6` | `600` |" in card
    assert "![loss](plots/loss.png)" in card
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["vocab_size"] == 15
    assert config["schedule"]["lr"]["begin"] == config["optimizer"]["lr"]


def test_ranks_that_start_seconds_apart_share_one_run_directory(tmp_path):
    script = wrapper(tmp_path, "import time; time.sleep(1.5 * rank)")
    done = run([*torchrun(2, script=script), *TOY, "train.steps=2"], tmp_path)
    assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "outputs" / "adder-llama_tiny").iterdir())
    assert len(folders) == 1
    assert (folders[0] / "summary.json").exists()
    assert done.stdout.count("parameters") == 1, "only one process speaks"


def test_two_nodes_divide_the_work_and_one_writes(tmp_path):
    port = free_port()
    nodes = []
    for node in (0, 1):
        (tmp_path / f"node{node}").mkdir()
        how = ["--nnodes=2", f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"]
        command = [*torchrun(2, *how), *TOY, *UNEVEN, f"hydra.run.dir={tmp_path / 'shared'}"]
        nodes.append(start(command, tmp_path / f"node{node}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    outputs = [node.communicate(timeout=150)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert "parameters" in outputs[0]
    assert "parameters" not in outputs[1]
    alone = run([sys.executable, TRAIN, *TOY, *UNEVEN, "hydra.run.dir=one"], tmp_path)
    assert alone.returncode == 0
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "one"), rel=2e-5)
    assert json.loads((tmp_path / "shared" / "run.json").read_text())["world_size"] == 4


def test_a_failure_on_one_rank_ends_the_run_with_its_message_and_leaves_no_process(tmp_path):
    script = wrapper(tmp_path, FAIL.format(step=3, rank=1, action="raise RuntimeError('the disk of rank 1 is gone')"))
    done = run([*torchrun(2, "--standalone", script=script), *TOY, "hydra.run.dir=r"], tmp_path)
    assert done.returncode not in (0, None)
    assert "the disk of rank 1 is gone" in done.stderr
    deadline = time.monotonic() + 20
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_in(tmp_path) == []


def test_a_failed_run_has_its_traceback_in_its_log_and_ends_with_1(tmp_path):
    script = wrapper(tmp_path, FAIL.format(step=3, rank=0, action="raise RuntimeError('something broke')"))
    done = run([sys.executable, script, *TOY, "hydra.run.dir=r"], tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: something broke" in done.stderr
    assert "RuntimeError: something broke" in (tmp_path / "r" / "train.log").read_text()
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["status"], summary["step"], summary["error"]) == ("failed", 2, "something broke")
    assert "Failed after step 2 of 6: `something broke`" in (tmp_path / "r" / "card.md").read_text()


def test_a_crashed_worker_is_restarted_by_torchrun_and_goes_on_in_the_same_directory(tmp_path):
    script = wrapper(tmp_path, FAIL.format(step=5, rank=1, action="os._exit(7)"))
    done = run(
        [*torchrun(2, "--max-restarts=1", "--monitor-interval=0.2", script=script), *TOY, "train.snapshot_every=2"],
        tmp_path,
        real=True,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "adder-llama_tiny").iterdir()
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    log = (folder / "train.log").read_text()  # the snapshot of step 4 may have been in the writing
    assert "continuing step_00000004" in log or "continuing step_00000002" in log


def test_processes_starts_them_and_says_so(tmp_path):
    done = run([sys.executable, TRAIN, *TOY, "train.steps=2", "processes=2", "device=cpu"], tmp_path, real=True)
    assert done.returncode == 0, done.stderr
    assert "Starting 2 processes (processes=1 keeps to one)" in done.stdout
    (folder,) = (tmp_path / "outputs" / "adder-llama_tiny").iterdir()
    assert json.loads((folder / "run.json").read_text())["world_size"] == 2


def test_a_directory_that_holds_a_run_is_not_started_over(tmp_path):
    command = [sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"]
    assert run(command, tmp_path).returncode == 0
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    again = run(command, tmp_path)
    assert again.returncode == 2
    assert "r holds a run already" in again.stderr
    assert "Traceback" not in again.stderr
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == before


def test_each_job_of_a_sweep_has_its_own_process_and_directory(tmp_path):
    done = run([sys.executable, TRAIN, "-m", *TOY, "train.steps=2", "seed=0,1"], tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    seeds = [json.loads((sweep / f"{job:04}_seed={job}" / "config.json").read_text())["seed"] for job in (0, 1)]
    assert seeds == [0, 1]


def test_a_signal_saves_and_ends_with_its_number(tmp_path):
    command = [sys.executable, TRAIN, *TOY, "train.steps=100000", "train.eval_every=null", "hydra.run.dir=r"]
    process = start(command, tmp_path, real=True, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not read_metrics(tmp_path / "r" / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Resume with: python train.py resume=r" in output
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert "Stopped by a signal at step" in (tmp_path / "r" / "card.md").read_text()
    assert (tmp_path / "r" / "snapshots" / f"step_{summary['step']:08d}" / "manifest.json").exists()


@pytest.mark.parametrize("size", [1, 3])
def test_stopped_by_a_signal_and_resumed_equals_left_alone_bit_by_bit(tmp_path, size):
    options = [*TOY, *UNEVEN, "model.dropout=0.2", "train.snapshot_every=null", "train.steps=8"]
    command = [*torchrun(size, "--standalone"), *options] if size > 1 else [sys.executable, TRAIN, *options]
    whole = run([*command, "hydra.run.dir=whole"], tmp_path)
    assert whole.returncode == 0, whole.stderr
    last = size - 1  # the signal reaches one process only, and all stop
    script = wrapper(tmp_path, FAIL.format(step=5, rank=last, action="os.kill(os.getpid(), 15)"))
    stopping = [script if word == TRAIN else word for word in command]
    cut = run([*stopping, "hydra.run.dir=cut"], tmp_path)
    assert cut.returncode == (1 if size > 1 else 143), cut.stderr
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["status"] == "stopped"
    assert "Resume with: " in cut.stdout
    assert "train.py resume=cut" in cut.stdout
    done = run([*command, "resume=auto", "hydra.run.dir=cut"], tmp_path)
    assert done.returncode == 0, done.stderr
    for place in ("final", "best"):
        name = f"{place}/model.safetensors"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    timeless = [
        [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]
        for rows in (read_metrics(tmp_path / run / "metrics.jsonl") for run in ("cut", "whole"))
    ]
    assert timeless[0] == timeless[1]


def test_a_run_goes_on_with_another_number_of_processes_and_says_so(tmp_path):
    options = [*TOY, *UNEVEN]
    assert run([sys.executable, TRAIN, *options, "hydra.run.dir=whole"], tmp_path).returncode == 0
    script = wrapper(tmp_path, FAIL.format(step=4, rank=0, action="os.kill(os.getpid(), 10)"))
    stopped = run([sys.executable, script, *options, "hydra.run.dir=cut"], tmp_path)
    assert stopped.returncode == 128 + signal.SIGUSR1
    done = run([sys.executable, TRAIN, "resume=cut", "processes=2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "begun with 1 process, continued with 2" in done.stdout
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=2e-5)


def test_a_finished_run_is_made_longer_and_what_it_is_can_not_be_changed(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"], tmp_path).returncode == 0
    other = ["model.n_layer=5", "dataset.digits=3", "seed=4", "optimizer=adamw"]
    refused = run([sys.executable, TRAIN, "resume=r", *other], tmp_path)
    assert refused.returncode == 2
    assert "model.n_layer: 2 there, 5 here" in refused.stderr
    assert "dataset.digits: 2 there, 3 here" in refused.stderr
    assert "seed: 0 there, 4 here" in refused.stderr
    assert "optimizer.name: muon there, adamw here" in refused.stderr
    assert not (tmp_path / "outputs" / "adder-llama").exists()
    longer = run([sys.executable, TRAIN, "resume=r", "train.steps=5", "optimizer.lr=0.002"], tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "r" / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert (config["train"]["steps"], config["optimizer"]["lr"], config["schedule"]["lr"]["begin"]) == (5, 0.002, 0.002)
    assert config["model"]["n_embd"] == 16


def test_a_run_that_has_reached_its_goal_is_complete_and_can_be_made_longer(tmp_path):
    goal = ["train.steps=40", "train.eval_every=2", "train.test_at_end=true"]
    rule = "train.stop_when={metric:val/loss,at_most:%s,times:2}"
    done = run([sys.executable, TRAIN, *TOY, *goal, rule % 2.7, "hydra.run.dir=r"], tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["status"], summary["verdict"]) == ("completed", "learned")
    step = summary["step"]
    assert 4 <= step < 40
    for said in (
        "40 steps of 12 samples, evaluated every 2",
        "it ends as soon as val/loss is at most 2.7 in 2 evaluations in a row",
        f"Solved after {step} of 40 steps: val/loss is at most 2.7 in 2 evaluations in a row.",
        "resume=r train.stop_when=null",
    ):
        assert said in done.stdout, said
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["schedule"]["steps"] == 40
    longer = run([sys.executable, TRAIN, "resume=r", "train.stop_when=null", "train.steps=20"], tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["step"] == 20
    assert json.loads((tmp_path / "r" / "config.json").read_text())["schedule"]["steps"] == 20, "it follows train.steps"
    other = run(
        [sys.executable, TRAIN, "resume=r", "train.stop_when={metric:val/accuracy,at_least:0,times:1}"], tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert "val/accuracy is at least 0.0" in other.stdout, "a goal is replaced whole"
    percent = run(
        [sys.executable, TRAIN, "resume=r", "train.stop_when={metric:val/accuracy,at_least:95,times:1}"], tmp_path
    )
    assert "write 0.95 for 95%" in percent.stderr
    missed = run([sys.executable, TRAIN, *TOY, *goal[1:], rule % 0.1, "hydra.run.dir=s"], tmp_path)
    assert "The goal was not reached in 6 steps" in missed.stdout
    unknown = run([sys.executable, TRAIN, *TOY, "train.stop_when={metric:val/bleu,at_least:1,times:1}"], tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith(
        "`train.stop_when.metric` is val/bleu, which dataset=adder does not have: it has val/"
    )


def test_init_from_begins_a_new_run_with_the_weights_of_another(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"], tmp_path).returncode == 0
    more = ["train.steps=1", "optimizer.lr=1e-12", "optimizer.weight_decay=0", "init_from=r/final", "hydra.run.dir=s"]
    done = run([sys.executable, TRAIN, *TOY, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    ends = [json.loads((tmp_path / name / "summary.json").read_text())["val/loss"] for name in "rs"]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    other = run([sys.executable, TRAIN, *TOY, "model.n_layer=1", "init_from=r", "hydra.run.dir=t"], tmp_path)
    assert other.returncode == 2
    assert "model.n_layer: 2 there, 1 here" in other.stderr


def test_a_signal_to_a_sweep_stops_its_job_with_a_snapshot_and_leaves_no_process(tmp_path):
    long = [word for word in TOY if not word.startswith("train.steps")]
    command = [sys.executable, TRAIN, "-m", *long, "train.steps=100000", "train.eval_every=null", "seed=0,1"]
    command.append("hydra.launcher.jobs=1")
    sweep = start(command, tmp_path, real=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 90
    while not any(tmp_path.glob("outputs/sweeps/*/0000*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    sweep.send_signal(signal.SIGTERM)
    sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGTERM
    (folder,) = tmp_path.glob("outputs/sweeps/*/0000*")
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    assert list((folder / "snapshots").glob("step_*"))
    assert not any(tmp_path.glob("outputs/sweeps/*/0001*/config.json")), "the sweep stopped as well"
    assert processes_in(tmp_path) == []


BLIND = """
if rank:
    from cleangpt.basics import files
    from cleangpt.train import resuming
    from cleangpt.runs import snapshot, weights
    def blind(*_):
        raise AssertionError("only rank 0 has the disk")
    files.read_json = weights.read = weights.about = snapshot.load_file = resuming.decide = blind
"""


def test_only_rank_0_needs_the_disk_of_the_run_directory(tmp_path):
    script = wrapper(tmp_path, BLIND)
    for part in (["train.steps=3", "train.test_at_end=true"], ["resume=auto", "train.steps=6"]):
        options = [word for word in TOY if not word.startswith(("train.steps", "train.test_at_end"))]
        done = run([*torchrun(2, "--standalone", script=script), *options, *part, "hydra.run.dir=r"], tmp_path)
        assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "r" / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_what_a_user_got_wrong_is_a_sentence_and_leaves_nothing_behind(tmp_path):
    for arguments, words in (
        (["init_from=nonsense"], "init_from=nonsense is no folder"),
        (["model.vocab_size=4"], "`model.vocab_size` must be at least 15"),
        (["resume=auto", "init_from=nonsense"], "init_from=nonsense is no folder"),
        (["hydra.run.dir=/proc/nowhere"], "can't be used"),
    ):
        done = run([sys.executable, TRAIN, *TOY, *arguments], tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.glob("outputs/*/*"))


def test_a_run_that_is_there_is_not_resumed_by_a_restart_that_was_refused(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"], tmp_path).returncode == 0
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    again = run([*torchrun(2, "--standalone", "--max-restarts=1"), *TOY, "hydra.run.dir=r"], tmp_path)
    assert again.returncode != 0
    assert "r holds a run already" in again.stderr
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == before


def test_processes_score_together_what_one_scores_alone(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "hydra.run.dir=r"], tmp_path).returncode == 0
    found = []
    for command in ([sys.executable], torchrun(3, "--standalone")[:-1]):
        done = run([*command, ROOT / "eval" / "score.py", "run=r"], tmp_path)
        assert done.returncode == 0, done.stderr
        score = json.loads((tmp_path / "r" / "score" / "test_best.json").read_text())
        found.append({key: value for key, value in score.items() if key != "seconds"})
    assert found[0] == found[1]
    assert found[0]["forced_equals_decoded"] == 256
