"""One scorer for every task: a score of a task is right whatever the task says, and however little it says."""

import numpy as np
import pytest
import torch
from helpers.configs import toy
from helpers.rote import Rote, judge

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import Section, parse
from cleangpt.models.build import build
from cleangpt.models.gpt import Settings as GPT
from cleangpt.score import evaluate, exact_match, of_task
from cleangpt.tasks.contract import Batch, Measure, Task, TaskWithAnswers
from cleangpt.tokens.tokenizers import Characters

SMALL = {"copy": {"letters": 3, "length": 4}, "sort": {"base": 4, "length": 3}}
SLICES = {"copy": ["by_length", "by_repeats"], "sort": ["by_inversions", "by_length_and_repeats"]}


def make(name: str, **changes) -> TaskWithAnswers:
    data = {**toy(f"dataset={name}")["dataset"], **SMALL[name], **changes}
    return tasks.make(parse(data, tasks.SETTINGS[name]))


class Keys(Section):
    name: str = "parity"
    sequence_length: int = 4


class Parity(TaskWithAnswers):
    """As little as a task with answers can say: four bits, and whether their sum is odd."""

    def __init__(self):
        super().__init__(Keys())
        self.tokenizer = Characters([*"01"])

    def size(self, split):
        return 0 if split == "test" else 16

    def batch(self, split, index, epoch_keys=None):
        bits = index[:, None] >> np.arange(4) & 1
        return Batch.of(bits, bits.sum(axis=1, keepdims=True) % 2, pad=0)

    def ask(self, text):
        raise UserError("nobody asks")


class Counting(Task):
    """As little as any task can say: rows of numbers that rise by one."""

    def __init__(self):
        super().__init__(Keys(name="counting", sequence_length=6))
        self.tokenizer = Characters([*"0123456789"])

    def size(self, split):
        return {"train": 10, "val": 10}.get(split, 0)

    def batch(self, split, index, epoch_keys=None):
        rows = (index[:, None] + np.arange(7)) % 10
        return Batch(rows[:, :-1], rows[:, 1:])

    def measures(self, loss, split="val"):
        return {**super().measures(loss), "certainty": Measure(-loss, more_is_better=True)}


def knows(task: TaskWithAnswers, wrong: frozenset[tuple[str, int]] = frozenset(), change: int = 0) -> evaluate.Judge:
    """A model that gives every answer by heart; of these (split, index) another token at place `change`."""
    follows = {}
    for split in ("train", "val", "test"):
        batch = task.batch(split, np.arange(task.size(split)))
        for index, (inputs, targets, answer) in enumerate(zip(batch.inputs, batch.targets, batch.answer, strict=True)):
            row = [int(inputs[0]), *targets.tolist()]
            first, count = int(answer.argmax()) + 1, int(answer.sum())
            if (split, index) in wrong:
                row[first + change] = (row[first + change] + 1) % 2
            follows |= {tuple(row[:place]): row[place] for place in range(first, first + count)}
    return judge(Rote(task, follows=follows))


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("name", SMALL)
def test_a_perfect_model_scores_everything_and_slices_add_up(name, method):
    task = make(name)
    for split in ("train", "val", "test"):
        score = of_task.score(task, knows(task), split, None, method)
        assert score["correct"] == score["problems"] == score["universe"] == task.size(split)
        assert score["complete"]
        assert score["wrong"] == []
        assert [key for key in score if key.startswith("by_") and key != "by_position"] == SLICES[name]
        for key in SLICES[name]:
            assert sum(row["problems"] for row in score[key]) == task.size(split)
        assert score["forced_equals_decoded"] == (None if method == "generate" else task.size(split))
    places = [str(n + 1) for n in range(task.settings.length)]
    assert [row["position"] for row in score["by_position"]] == [*places, "end"]


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("name", SMALL)
def test_wrong_answers_are_counted_where_they_are(name, method):
    task = make(name)
    wrong = frozenset(("train", index) for index in range(0, task.size("train"), 3))
    score = of_task.score(task, knows(task, wrong), "train", None, method)
    assert score["problems"] - score["correct"] == len(wrong)
    questions = task.questions(task.batch("train", np.array(sorted(index for _, index in wrong))))
    assert [row["question"] for row in score["wrong"]] == [question.text for question in questions][: exact_match.SHOWN]
    assert [row["right"] for row in score["wrong"]] == [q.read(q.right) for q in questions][: exact_match.SHOWN]
    first, *_, end = score["by_position"]
    assert first["problems"] - first["correct"] == len(wrong)
    assert end["problems"] == task.size("train")
    for key in SLICES[name]:
        assert sum(row["correct"] for row in score[key]) == score["correct"]
    assert "leak" not in score


def test_slices_hold_the_problems_of_their_name():
    task = make("copy")
    score = of_task.score(task, knows(task), "train", None, "forced")
    texts = [question.text for question in task.questions(task.batch("train", np.arange(task.size("train"))))]
    for row in score["by_length"]:
        assert row["problems"] == sum(len(text) == row["length"] for text in texts)
    for row in score["by_repeats"]:
        assert row["problems"] == sum(len(text) - len(set(text)) == row["repeats"] for text in texts)


def test_a_limit_takes_a_fixed_sample():
    task = make("copy")
    first, again = (exact_match.choose(task, "train", 30) for _ in range(2))
    assert np.array_equal(first.index, again.index)
    assert len(set(first.index.tolist())) == 30
    assert not first.complete
    score = of_task.score(task, knows(task), "train", 30, "forced")
    assert (score["problems"], score["universe"], score["complete"]) == (30, task.size("train"), False)
    assert "copy, a sample of the" in of_task.tables(task, score)[0].title


@pytest.mark.parametrize("name", SMALL)
def test_tables_and_pictures_show_every_slice(name, tmp_path):
    from rich.console import Console

    task = make(name)
    score = of_task.score(task, knows(task, frozenset({("test", 0)})), "test", None, "forced")
    console = Console(width=150)
    with console.capture() as capture:
        for table in of_task.tables(task, score):
            console.print(table)
    text = capture.get()
    for words in (f"{name}, all", "By token of the answer", score["wrong"][0]["question"]):
        assert words in text
    for key in SLICES[name]:
        assert key.replace("_", " ").capitalize() in text
    paths = of_task.draw(task, score, tmp_path, "best")
    assert {path.name for path in paths} == {
        "copy": {"test_best_slices.png"},
        "sort": {"test_best_slices.png", "test_best_length_and_repeats.png"},
    }[name]
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize("method", ["forced", "generate"])
def test_a_task_that_says_only_what_it_must_is_scored(method):
    task = Parity()
    score = of_task.score(task, knows(task, frozenset({("val", 3)})), "val", None, method)
    assert (score["correct"], score["problems"]) == (15, 16)
    assert [key for key in score if key.startswith("by_")] == ["by_position"]
    assert score["by_position"] == [{"position": "1", **{k: score[k] for k in score["by_position"][0] if k in score}}]
    assert score["wrong"] == [{"question": "1100", "right": "0", "given": "1", "correct": False}]
    assert task.more_is_better == ("accuracy",)
    assert of_task.headline(task, score) == {"accuracy": 15 / 16, "problems": 16}
    assert [shown.line for shown in of_task.show(task, knows(task), 2)] == ["0000 = 0 ✓", "1000 = 1 ✓"]


def test_samples_without_answers_are_scored_by_their_loss():
    task = Counting()
    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "block_size": 6, "vocab_size": 10}
    model = build(GPT(**toy("model=gpt")["model"] | {"position_rows": 20} | small))
    model.initialise(torch.Generator().manual_seed(0))
    found = evaluate.validate(judge(model), task)
    assert set(found) == {"val/loss", "val/perplexity", "val/certainty"}
    assert found["val/certainty"] == -found["val/loss"]
    assert task.more_is_better == ("certainty",)
    assert task.guessing() == pytest.approx(np.log(10))
    score = of_task.score(task, judge(model), "val", None, "auto")
    assert score["loss"] == pytest.approx(found["val/loss"])
    assert score["tokens"] == 60
    assert list(of_task.headline(task, score)) == ["loss", "perplexity", "certainty", "tokens"]
    heads = [column.header for column in of_task.tables(task, score)[0].columns]
    assert heads[3:5] == ["perplexity", "certainty"]
    with pytest.raises(UserError, match="counting has no test split"):
        of_task.score(task, judge(model), "test", None, "auto")
