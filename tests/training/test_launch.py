"""Whole trainings as a user starts them: plain, under torchrun, on two nodes, with failing processes."""

import json
import socket
import subprocess
import sys
import time

import pytest
from started.launched import FAIL, ROOT, TOY, TRAIN, UNEVEN, losses, processes_in, torchrun, wrapper
from started.programs import run, start

from cleangpt.disk.rundir import read_metrics


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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


@pytest.mark.slow
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
    done = run([sys.executable, TRAIN, "-m", *TOY, "train.steps=2", "seed=0,1", "hydra.launcher.keep=false"], tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    seeds = [json.loads((sweep / f"{job:04}_seed={job}" / "config.json").read_text())["seed"] for job in (0, 1)]
    assert seeds == [0, 1]


BLIND = """
if rank:
    from cleangpt.basics import files
    from cleangpt.training import resuming
    from cleangpt.disk import weights
    from cleangpt.snapshots import snapshot
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
