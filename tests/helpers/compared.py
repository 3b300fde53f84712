"""Run directories to be compared, made without training."""

import json

from cleangpt.disk import migrations
from cleangpt.report import collect
from cleangpt.report.compare import compare

CONFIG = {
    "seed": 0,
    "resume": None,
    "dataset": {"name": "adder", "digits": 2},
    "model": {"name": "llama", "n_layer": 1, "block_size": 9},
    "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.1},
    "schedule": {"lr": {"begin": 0.001, "end": 0.0}},
}


def make(path, *losses, status="completed", accuracy=None, overrides=None, **changes):
    """A run directory with an evaluation every 10 steps; `changes` by dotted key, with __ for the dot."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        section, leaf = config, key.split("__")[-1]
        for part in key.split("__")[:-1]:
            section = section.setdefault(part, {})
        section[leaf] = value
    if "schedule__lr__begin" not in changes:
        config["schedule"]["lr"]["begin"] = config["optimizer"]["lr"]
    rows = []
    for number, loss in enumerate(losses, 1):
        row = {"step": 10 * number, "train/loss": None if loss is None else loss + 0.5, "tokens": 1000 * number}
        row |= {"val/loss": loss, "seconds": 60.0 * number}
        if accuracy:
            row["val/accuracy"] = accuracy[number - 1]
        rows.append(row)
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(migrations.stamped(config)))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if overrides is not None:
        (path / "run.json").write_text(json.dumps({"overrides": overrides, "parameters": {"total": 1234}}))
    if status:
        summary = {"status": status, "step": 10 * len(losses), "tokens": 1000 * len(losses), "seconds": 77.0}
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def compared(folder, metric=None):
    return compare(collect.read(collect.find(str(folder))), metric)


def mean_of(found, group):
    """Over how many seeds the final value of a group is estimated, and its mean."""
    estimated = found.final(group, found.metric)
    return estimated.count, estimated.mean


def sweep(folder, seeds=(0, 1, 2)):
    """Two learning rates with known final losses: 1, 2, 3 and 2, 4, 6."""
    for seed in seeds:
        make(folder / str(seed), 5.0, 1.0 + seed, seed=seed)
        make(folder / str(len(seeds) + seed), 0.5, 2.0 + 2 * seed, seed=seed, optimizer__lr=0.01)
    return folder
