"""The page that a run ends with, and what it takes for a change."""

import json

import pytest
from helpers.configs import toy

from cleangpt import tasks
from cleangpt.config import cli, composition, experiment
from cleangpt.config.asked import Asked
from cleangpt.disk import card, record
from cleangpt.disk.rundir import RunDir


def changed(*options, before=None, overrides=(), **changes):
    """Note what a run with these options would call changed, its values filled in as a run does it."""
    asked = experiment.parse(_composed(*options, **changes))
    complete = experiment.resolve(asked, tasks.make(asked.dataset))
    if before is not None:  # a resumed run asks for what its config.json holds
        asked = complete
        before = {"resumed": [{"changed": before}]}
    return record.changes(complete, Asked(asked, tuple(overrides)), before)


def _composed(*options, **changes):
    from hydra import compose, initialize_config_dir

    cli.register_resolvers(experiment.Config)
    with initialize_config_dir(composition.CONF, version_base=None):
        return composition.plain(
            compose("train", [*options, *(f"{key}={json.dumps(value)}" for key, value in changes.items())])
        )


def test_a_run_of_the_defaults_has_changed_nothing():
    assert changed() == {}


def test_a_change_is_told_with_the_default_and_what_follows_from_it_is_not():
    assert changed("optimizer.lr=0.5", "dataset.digits=2") == {
        "optimizer.lr": {"here": 0.5, "default": toy()["optimizer"]["lr"]},
        "dataset.digits": {"here": 2, "default": 3},
    }, "the schedule begins at optimizer.lr and the context follows from the digits"


def test_a_value_that_is_given_where_the_default_leaves_it_open_is_a_change():
    assert changed("model.block_size=64", "train.early_stopping=4") == {
        "model.block_size": {"here": 64, "default": None},
        "train.early_stopping": {"here": 4, "default": None},
    }


def test_of_another_architecture_only_what_its_own_file_does_not_say_is_a_change():
    assert changed("model=gpt", "model.bias=false") == {
        "model.name": {"here": "gpt", "default": "llama"},
        "model.bias": {"here": False, "default": True},
    }


def test_how_a_run_was_continued_is_no_change():
    assert changed(resume="auto") == {}


def test_a_resumed_run_has_the_changes_of_its_beginning_and_of_its_own_command_line():
    first = changed("model.block_size=64")
    assert first == {"model.block_size": {"here": 64, "default": None}}
    options = ("model.block_size=64", "train.steps=7", "logger.norms=3")
    again = changed(*options, before=first, overrides=["train.steps=7", "logger.norms=3", "resume=auto"])
    assert again == {**first, "train.steps": {"here": 7, "default": 600}, "logger.norms": {"here": 3, "default": None}}


def test_a_dtype_that_was_decided_is_no_change_and_one_that_was_asked_for_is():
    def dtype(asked, decided, before=None, overrides=()):
        given = experiment.parse(_composed(f"dtype={asked}"))
        complete = experiment.resolve(given, tasks.make(given.dataset)).model_copy(update={"dtype": decided})
        return record.changes(complete, Asked(given, tuple(overrides)), before).get("dtype")

    assert dtype("auto", "bfloat16") is None
    assert dtype("float32", "float32") == {"here": "float32", "default": "auto"}
    begun = {"changed": {}}
    assert dtype("bfloat16", "bfloat16", begun, ["train.steps=7", "dtype=auto"]) is None
    assert dtype("bfloat16", "bfloat16", begun, ["dtype=bfloat16"]) == {"here": "bfloat16", "default": "auto"}
    asked = {"changed": {"dtype": {"here": "bfloat16", "default": "auto"}}}
    assert dtype("bfloat16", "bfloat16", asked, ["dtype=auto"]) == {"here": "bfloat16", "default": "auto"}


def test_defaults_compose_within_a_running_program_and_leave_it_as_it_was():
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(composition.CONF, version_base=None):
        running = GlobalHydra.instance().hydra
        assert composition._defaults.__wrapped__(composition.CONF, "train", ())["model"]["name"] == "llama"
        assert GlobalHydra.instance().hydra is running
        assert compose("train", ["model=gpt"]).model.name == "gpt"


PART = {
    "command": ["train.py", "dataset.digits=2", "hydra.run.dir=a run"],
    "overrides": [],
    "changed": {"dataset.digits": {"here": 2, "default": 3}, "model.bias": {"here": True}},
    "started": "2026-01-02T03:04:05+0000",
    "git": {"commit": "abc", "dirty": True},
    "versions": {"python": "3.11", "torch": "2.13", "cleangpt": "0.1"},
    "machine": {
        "host": "a|b",
        "system": "Linux",
        "cores": 2,
        "device": "CPU",
        "dtype": "float32",
        "processor": "Abacus",
    },
    "world_size": 1,
    "local_world_size": 1,
    "parameters": {"total": 27744, "without_embeddings": 27264},
}
SUMMARY = {
    "completed": {
        "best/val/perplexity": 3.25,
        "step": 9,
        "test/accuracy": 0.5,
        "test/problems": 1500,
        "mfu": 0.4123,
        "tokens": 12345,
        "seconds": 65.2,
    },
    "early_stopped": {"step": 5, "best/step": 2, "best/val/loss": 0.125},
    "stopped": {"step": 5, "val/loss": None},
    "failed": {"step": 4, "error": "`train.py` broke\nin two"},
}


def page(folder, status, *more_parts):
    run = RunDir(folder)
    about = {**PART, **({"resumed": list(more_parts)} if more_parts else {})}
    for path, data in (
        (run.run, about),
        (run.summary, {"status": status, **SUMMARY[status]}),
        (run.config, {"train": {"steps": 9}, "processes": "auto"}),
    ):
        path.write_text(json.dumps(data))
    return card.write(run).read_text()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            "completed",
            [
                "Completed at step 9 of 9.",
                "| exact match on test | 50.00% of 1,500 problems |",
                "| MFU | 41.2% |",
                "| best/val/perplexity | 3.25 |",
            ],
        ),
        ("early_stopped", ["Stopped early at step 5 of 9", "| best step | 2 |", "| validation loss there | 0.12500 |"]),
        ("stopped", ["Stopped by a signal at step 5 of 9; `resume=` continues it."]),
        ("failed", ["Failed after step 4 of 9: `` `train.py` broke in two ``"]),
    ],
)
def test_a_card_says_how_a_run_ended(tmp_path, status, said):
    text = page(tmp_path, status)
    for words in said:
        assert words in text
    assert "None" not in text
    assert "null" not in text


def test_a_card_says_that_a_run_was_solved_or_did_not_learn():
    solved = {"status": "completed", "step": 5, "verdict": "learned"}
    assert card._ending(solved, 9) == "Solved at step 5 of 9, as `train.stop_when` asks."
    stuck = {"status": "completed", "step": 9, "verdict": "plateau"}
    assert card._ending(stuck, 9).startswith("Completed at step 9 of 9. It did not learn this: its loss got no better")


def test_a_card_says_what_was_run_where_and_with_which_changes(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "loss.png").write_bytes(b"")
    text = page(tmp_path, "completed")
    assert "```\npython train.py dataset.digits=2 'hydra.run.dir=a run'\n```" in text
    assert "| `dataset.digits` | `2` | `3` |\n| `model.bias` | `true` |  |" in text
    assert "| processor | Abacus |" in text
    assert "| host | a\\|b, 2 cores, Linux |" in text
    assert "abc, with changes that are not committed" in text
    assert "![loss](plots/loss.png)" in text


def test_a_card_names_every_start_and_the_last_machine(tmp_path):
    later = {**PART, "command": ["train.py", "resume=r"], "world_size": 8, "local_world_size": 4, "changed": {}}
    text = page(tmp_path, "completed", later)
    assert "hydra.run.dir=a run'\ntorchrun --nnodes=2 --nproc-per-node=4 train.py resume=r\n```" in text
    assert "Everything as in `conf/`." in text
    assert "| processes | 8 |" in text
