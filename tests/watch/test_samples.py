"""samples.jsonl: what a model made of a few samples at each evaluation."""

import json

from started.programs import run_program

SMALL = ("model=llama_tiny", "model.n_embd=16", "dataset.digits=1", "train.batch_size=8", "logger.plots=false")


def rows(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_answers_are_kept_with_their_verdicts_and_no_step_stands_twice(tmp_path):
    run = tmp_path / "run"
    train = ("train.steps=6", "train.eval_every=2", "train.snapshot_every=4", "hydra.run.dir=run")
    assert run_program("train.py", *SMALL, *train, cwd=tmp_path).returncode == 0
    found = rows(run)
    assert [row["step"] for row in found] == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    assert all(row["correct"] == (row["given"] == row["right"]) for row in found)
    assert f"{found[0]['question']} = {found[0]['given']}" in (run / "train.log").read_text()
    (run / "samples.jsonl").write_bytes((run / "samples.jsonl").read_bytes() + b'{"step": 6, "quest')
    done = run_program("train.py", "resume=run/snapshots/step_00000004", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows(run) == found


def test_text_is_kept_with_its_prompt(tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be: that is the question.\n" * 200)
    prepare = ("dataset=text", "dataset.source=text.txt", "dataset.tokenizer=characters", "dataset.dir=data")
    assert run_program("data/prepare.py", *prepare, cwd=tmp_path).returncode == 0
    words = ("dataset=text", "dataset.dir=data", "model.block_size=16", "train.steps=2", "train.eval_every=2")
    small = [word for word in SMALL if not word.startswith("dataset.")]
    done = run_program("train.py", *small, *words, "logger.samples=2", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [sorted(row) for row in rows(tmp_path / "run")] == [["prompt", "step", "text"]] * 2
