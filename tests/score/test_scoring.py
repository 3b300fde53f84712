"""Scores: the fast way equals real decoding, only well-formed answers count, and parts add up to the whole."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from helpers import PLAIN, arithmetic, within, written
from rote import ALONE, Rote, by_heart, judge, rote, steps

from cleangpt.machine.distributed import World
from cleangpt.machine.signals import Stopped
from cleangpt.models import gpt, llama
from cleangpt.models.build import build
from cleangpt.score import evaluate, of_task
from cleangpt.score import exact_match as scoring
from cleangpt.score.evaluate import Judge, wilson
from cleangpt.tasks import digits as decimal
from cleangpt.tasks.arithmetic import Settings, Task
from cleangpt.terminal import patience

SPLITS = ("train", "val", "test")
FORMATS = [
    {"padded": padded, "reversed": reversed_, "symbols": symbols, "end_token": end}
    for reversed_ in (True, False)
    for padded, symbols, end in ((True, True, True), (True, True, False), (True, False, True), (False, True, True))
]
MODELS = ["llama", "gpt"]


@cache
def half_trained(s: Settings, name: str) -> Judge:
    """A real model that gets some of the problems right."""
    task = Task(s)
    common = {"n_layer": 1, "n_embd": 32, "n_head": 2, "dropout": 0.0, "tied": False, "attention": "auto"}
    common |= {"block_size": task.sequence_length, "vocab_size": task.tokenizer.vocab_size}
    if name == "gpt":
        config = gpt.Settings(name="gpt", bias=True, **PLAIN["gpt"], **common)
    else:
        own = {"head_dim": 16, "n_kv_head": 1, "ffn_dim": 64, "rope_base": 1e4, "norm_eps": 1e-5}
        own |= {"rope_scaling": None, **PLAIN["llama"]}
        config = llama.Settings(name="llama", **own, **common)
    model = build(config)
    model.initialise(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    batch = task.batch("train", np.arange(task.size("train")))
    inputs, targets, weights = map(torch.from_numpy, (batch.inputs, batch.targets, batch.loss_weights))
    for _ in range(40):
        (model.forward(inputs, targets, weights) / weights.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return judge(model)


def without_time(score: dict) -> dict:
    return {key: value for key, value in score.items() if key != "seconds"}


# --------------------------------------------------------------------------------------------------------------
# One pass against real decoding


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_one_pass_gives_the_verdicts_of_real_decoding_on_every_problem(name, changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, name)
    samples = [scoring.choose(task, split, None) for split in SPLITS]
    forced, decoded = (
        np.concatenate([judged(task, model, sample).all(axis=1) for sample in samples])
        for judged in (scoring._teacher_forced, scoring._generated)
    )
    assert np.array_equal(forced, decoded)
    assert 5 < forced.sum() < 95  # it has to say something about right and about wrong answers
    problems = [pair for sample in samples for pair in zip(*task.problems(sample.split, sample.index), strict=True)]
    texts = [written(task.settings, a, b) for a, b in problems]
    tokens = torch.tensor([task.tokenizer.encode(prompt) for prompt, _ in texts])  # all of one length
    for _ in range(task.answer_length):  # without a cache
        tokens = torch.cat([tokens, model.model.forward(tokens)[:, -1:].argmax(dim=-1)], dim=1)
    given = [task.tokenizer.decode(row) for row in tokens.tolist()]
    slow = [text.startswith(prompt + answer) for text, (prompt, answer) in zip(given, texts, strict=True)]
    assert forced.tolist() == slow


@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_both_methods_give_one_score(changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, "llama")
    forced, generated = (of_task.score(task, model, "train", None, method) for method in ("forced", "generate"))
    kinds = ("method", "forced_equals_decoded", "by_position", "position_kind", "seconds")
    assert {k: v for k, v in forced.items() if k not in kinds} == {k: v for k, v in generated.items() if k not in kinds}
    assert (forced["method"], generated["method"]) == ("forced", "generate")
    assert forced["forced_equals_decoded"] == forced["problems"]
    assert generated["forced_equals_decoded"] is None
    assert 0 < forced["correct"] < forced["problems"]
    # The first token of an answer is judged the same by both; later ones only after right ones.
    if changes["padded"]:
        assert forced["by_position"][0] == generated["by_position"][0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", [{}, *FORMATS[:2], {"name": "multiplier"}, {"loss": "all"}], ids=str)
def test_what_is_read_once_for_many_problems_gives_what_reading_all_of_each_gives(name, changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, name)
    a, b = (x.reshape(-1) for x in np.indices((10, 10)))
    batch = task.encode(a, b)
    shared, _ = evaluate.shared_beginning(batch.inputs, evaluate.first_that_counts(batch))
    assert (shared > 0) == (changes.get("loss") != "all"), "the example should share what its loss leaves out"
    whole = model.model.eval().forward(torch.from_numpy(np.ascontiguousarray(batch.inputs))).argmax(dim=-1).numpy()
    assert np.array_equal(model.predictions(batch)[batch.answer], whole[batch.answer])


def test_rows_share_what_leaves_the_least_to_read():
    rows = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 5], [2, 2, 6, 5]] * 2)
    found = [evaluate.shared_beginning(rows, longest) for longest in range(4)]
    assert [shared for shared, _ in found] == [0, 1, 2, 2]  # three tokens would be read of six groups
    assert found[2][1].tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert evaluate.shared_beginning(rows[::3], 3)[0] == 0, "what is read for one row alone is not worth it"


def test_a_choice_by_a_hairs_breadth_is_left_to_the_plain_reading(monkeypatch):
    """As if what is shared rounded otherwise: the far likelier token stays, of two that are as likely none is sure."""
    task = arithmetic(digits=1)
    model = half_trained(task.settings, "llama").model
    batch = task.encode(*(x.reshape(-1) for x in np.indices((10, 10))))
    right = judge(model).predictions(batch)
    exact = model.forward

    def rounded(tokens, cache=None, **more):
        logits = exact(tokens, cache=cache, **more)
        noise = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
        return logits + 0.2 * noise if cache is not None else logits

    monkeypatch.setattr(model, "forward", rounded)
    monkeypatch.setattr(evaluate, "HAIR", 0.2)
    with monkeypatch.context() as careless:
        careless.setattr(evaluate, "HAIR", 0.0)
        assert not np.array_equal(judge(model).predictions(batch), right), "the noise should turn some choice"
    assert np.array_equal(judge(model).predictions(batch), right)


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("limit", [None, 700])
def test_a_first_look_shows_a_stratified_sample_and_changes_nothing(limit, method, monkeypatch):
    monkeypatch.setattr(scoring, "FIRST", 300)
    task = arithmetic(digits=2)
    model = rote(task, flawed(task, 0.3))
    shown = []
    watched = of_task.score(task, model, "test", limit, method, watch=evaluate.Watch(shown.append, patience.Nobody()))
    assert without_time(watched) == without_time(of_task.score(task, model, "test", limit, method))
    (table,) = shown
    assert table.title.startswith(f"A first look: 300 of {watched['problems']:,} problems")
    assert list(table.columns[1].cells) == ["300"]
    few = of_task.score(task, model, "test", 300, method)
    assert list(table.columns[3].cells) == [f"{few['accuracy']:.3%}"]


def test_a_signal_at_any_time_of_a_score_stops_it(monkeypatch):
    task = arithmetic(digits=1)
    wrong = rote(task, flawed(task, 0.5))
    for name in ("_divided", "prove", "_wrong"):
        with monkeypatch.context() as patched:
            real = getattr(scoring, name)

            def asked(*arguments, real=real):
                wrong.stop.number = 15
                return real(*arguments)

            patched.setattr(scoring, name, asked)
            with pytest.raises(Stopped):
                of_task.score(task, wrong, "train", None, "forced")
        wrong.stop.number = 0
    assert of_task.score(task, wrong, "train", None, "forced")["wrong"]


def test_a_signal_ends_an_evaluation_of_more_problems_than_anyone_waits_for():
    asked = rote(arithmetic(digits=1))
    asked.stop.number = 15
    with within(20), pytest.raises(Stopped):
        evaluate.validate(asked, arithmetic(digits=20, val_size=10**12))


def test_of_few_problems_there_is_no_first_look(monkeypatch):
    monkeypatch.setattr(scoring, "FIRST", 300)
    shown = []
    task = arithmetic(digits=2)
    of_task.score(task, rote(task), "test", 600, "forced", watch=evaluate.Watch(shown.append, patience.Nobody()))
    assert shown == []


def test_auto_is_the_fast_way():
    task = arithmetic(digits=1)
    scores = [without_time(of_task.score(task, rote(task), "test", None, method)) for method in ("auto", "forced")]
    assert scores[0] == scores[1]
    assert scores[0]["method"] == "forced"


class Flatterer(Judge):
    """Claims that all is predicted right."""

    def predictions(self, batch):
        return batch.targets


class Detractor(Judge):
    """Claims of one problem that it is predicted wrong."""

    def predictions(self, batch):
        predicted = super().predictions(batch)
        predicted[57] += 1
        return predicted


def test_forced_predictions_that_lie_are_found_out():
    task = arithmetic(digits=1)
    model = half_trained(task.settings, "llama").model
    with pytest.raises(scoring.Disagreement, match="method=generate"):
        of_task.score(task, Flatterer(model, torch.device("cpu"), ALONE), "train", None, "forced")


def test_a_single_right_answer_that_is_called_wrong_is_found_out():
    task = arithmetic(digits=2)
    liar = Detractor(Rote(task), torch.device("cpu"), ALONE)
    with pytest.raises(scoring.Disagreement, match="1 of 256 problems"):
        of_task.score(task, liar, "test", None, "forced")


def test_prove_compares_so_many_problems_as_there_are_but_no_more_than_its_limit():
    task = arithmetic(digits=2)
    sample = scoring.choose(task, "test", None)
    right = np.ones(len(sample.index), bool)
    assert scoring.prove(task, rote(task), sample, right) == scoring.PROOF
    few = scoring.choose(task, "test", 30)
    assert scoring.prove(task, rote(task), few, right[:30]) == 30


def test_prove_finds_one_false_verdict_among_many_wrong_answers():
    task = arithmetic(digits=2)
    sample = scoring.choose(task, "test", 200)
    problems = zip(*task.problems("test", sample.index), strict=True)
    wrong = {(int(a), int(b)): "999\n" for a, b in problems}
    right = np.zeros(200, bool)
    assert scoring.prove(task, rote(task, wrong), sample, right) == 200
    for lie in (0, 199):
        right = np.zeros(200, bool)
        right[lie] = True
        with pytest.raises(scoring.Disagreement):
            scoring.prove(task, rote(task, wrong), sample, right)


def test_prove_looks_at_all_of_a_sample_even_when_many_answers_are_wrong():
    task = arithmetic()
    sample = scoring.choose(task, "test", 5000)
    ignorant = judge(Rote(task, follows={}))
    full_length = np.min(task.problems("test", sample.index), axis=0) >= 100
    assert scoring.prove(task, ignorant, sample, np.zeros(5000, bool)) == scoring.PROOF
    with pytest.raises(scoring.Disagreement) as error:
        scoring.prove(task, ignorant, sample, full_length)  # as if it were right there
    found = int(re.search(r"on (\d+) of 256", str(error.value))[1])
    assert found > 128 * full_length.mean() / 2  # half of the proof goes to wrong answers


# --------------------------------------------------------------------------------------------------------------
# What counts as right


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("name", ["adder", "multiplier"])
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_a_perfect_model_scores_everything(name, changes, method):
    task = arithmetic(name=name, digits=1, **changes)
    perfect = rote(task)
    for split in ("train", "val", "test"):
        score = of_task.score(task, perfect, split, None, method)
        assert score["correct"] == score["problems"] == score["universe"] == task.size(split)
        assert score["accuracy"] == 1
        assert score["interval"][1] == 1
        assert score["wrong"] == []
        assert all(row["accuracy"] == 1 for row in score["by_position"] if row["problems"])
    assert perfect.model.training  # left as it was found


def test_a_model_that_answers_the_padded_way_reversed_is_wrong_but_on_palindromes():
    task = arithmetic(digits=1, reversed=True)
    plain = arithmetic(digits=1, reversed=False)
    score = of_task.score(task, rote(plain), "train", None, "forced")
    a, b = task.problems("train", np.arange(task.size("train")))
    assert score["correct"] == sum(f"{x + y:02}" == f"{x + y:02}"[::-1] for x, y in zip(a, b, strict=True))


ILL_FORMED = {
    "another digit": "03\n",
    "a symbol in place of a digit": "0=\n",
    "an operator in place of a digit": "+4\n",
    "an end in place of a digit": "\n4\n",
    "padding in place of a digit": " 4\n",
    "a digit in place of the end": "044",
    "padding in place of the end": "04 ",
    "a symbol in place of the end": "04=",
}


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("answer", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_an_answer_with_one_wrong_token_of_any_kind_is_wrong(answer, method):
    task = arithmetic(digits=1, reversed=False)
    pairs = {(a, 4 - a): answer for a in range(5)}
    scores = [of_task.score(task, rote(task, pairs), split, None, method) for split in ("train", "val", "test")]
    assert sum(score["problems"] - score["correct"] for score in scores) == 5
    assert sum(len(score["wrong"]) for score in scores) == 5


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("answer", ["4 ", "44", "4=", "04", " 4", "\n", "=\n"])
def test_an_unpadded_answer_has_to_end_where_the_number_does(answer, method):
    task = arithmetic(digits=1, padded=False, reversed=False)
    pairs = {(a, 4 - a): answer for a in range(5)}
    scores = [of_task.score(task, rote(task, pairs), split, None, method) for split in ("train", "val", "test")]
    assert sum(score["problems"] - score["correct"] for score in scores) == 5


def test_what_follows_the_end_of_an_answer_does_not_matter():
    task = arithmetic(digits=1, padded=False)
    end = task.tokenizer.end
    ended = [(*text, end) for text, token in by_heart(task.settings).items() if token == end]
    model = judge(Rote(task, follows=by_heart(task.settings) | dict.fromkeys(ended, 3)))
    for method in ("forced", "generate"):
        assert of_task.score(task, model, "train", None, method)["accuracy"] == 1


def test_wrong_answers_are_shown_as_the_model_gives_them():
    task = arithmetic(digits=2, reversed=True)
    a, b = task.problems("test", np.arange(100))
    first = (int(a[3]), int(b[3]))
    score = of_task.score(task, rote(task, {first: "12=\n"}), "test", None, "forced")
    question = f"{first[0]}+{first[1]}"
    assert score["wrong"] == [{"question": question, "right": str(sum(first)), "given": "12=", "correct": False}]
    score = of_task.score(task, rote(task, {first: "120\n"}), "test", None, "forced")
    assert score["wrong"][0]["given"] == "21"


def test_only_the_first_wrong_answers_are_kept():
    task = arithmetic(digits=2)
    a, b = task.problems("test", np.arange(task.size("test")))
    nonsense = {(int(x), int(y)): "===\n" for x, y in zip(a, b, strict=True)}
    score = of_task.score(task, rote(task, nonsense), "test", None, "forced")
    assert score["correct"] == 0
    assert len(score["wrong"]) == scoring.SHOWN


# --------------------------------------------------------------------------------------------------------------
# Parts of a score


def flawed(task, share: float) -> dict[tuple[int, int], str]:
    """False answers to this share of the problems, wrong from one token on: which one goes around."""
    chance = np.random.default_rng(0)
    says = {}
    for a, b in np.ndindex(task.universe.numbers, task.universe.numbers):
        if chance.random() < share:
            _, answer = written(task.settings, a, b)
            place = len(says) % len(answer)
            says[a, b] = answer[:place].ljust(len(answer), "*")
    return says


@pytest.mark.parametrize("changes", [{}, {"padded": False}, {"name": "multiplier"}, {"split": "ordered"}], ids=str)
def test_slices_add_up_to_the_whole(changes):
    task = arithmetic(digits=2, **changes)
    score = of_task.score(task, rote(task, flawed(task, 0.3)), "test", None, "forced")
    assert 0 < score["correct"] < score["problems"] == task.size("test")
    assert score["accuracy"] == pytest.approx(score["correct"] / score["problems"])
    slices = [score[key] for key in ("by_carries", "by_longest_carry_run", "by_operand_lengths")]
    slices.append([score["leak"]["leaked"], score["leak"]["clean"]])
    for rows in slices:
        assert sum(row["problems"] for row in rows) == score["problems"]
        assert sum(row["correct"] for row in rows) == score["correct"]
        for row in rows:
            if row["problems"]:
                assert row["accuracy"] == pytest.approx(row["correct"] / row["problems"])
                assert row["interval"] == pytest.approx(wilson(row["correct"], row["problems"]))


def test_slices_hold_the_problems_of_their_name():
    task = arithmetic(digits=2)
    says = flawed(task, 0.3)
    score = of_task.score(task, rote(task, says), "test", None, "forced")
    carries, runs, lengths = Counter(), Counter(), Counter()
    for a, b in zip(*(map(int, x) for x in task.problems("test", np.arange(task.size("test")))), strict=True):
        carried = [a % 10 + b % 10 >= 10, a + b >= 100]
        right = (a, b) not in says
        carries[sum(carried)] += right
        runs[2 if all(carried) else int(any(carried))] += right
        lengths[len(str(a)), len(str(b))] += right
    assert {row["carries"]: row["correct"] for row in score["by_carries"]} == carries
    assert {row["run"]: row["correct"] for row in score["by_longest_carry_run"]} == runs
    assert {(row["a"], row["b"]): row["correct"] for row in score["by_operand_lengths"]} == lengths


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_each_position_counts_the_wrong_tokens_at_its_power_of_ten(changes, method):
    task = arithmetic(digits=2, **changes)
    says = flawed(task, 0.3)
    score = of_task.score(task, rote(task, says), "test", None, method)
    asked, wrong, order = Counter(), Counter(), []
    for a, b in zip(*(map(int, x) for x in task.problems("test", np.arange(task.size("test")))), strict=True):
        _, answer = written(task.settings, a, b)
        digits = answer.rstrip("\n")
        powers = range(len(digits)) if task.settings.reversed else reversed(range(len(digits)))
        names = [f"10^{k}" for k in powers] + ["end"] * task.settings.end_token
        order = max(order, names, key=len)
        asked.update(names)
        if (a, b) in says:
            place = says[a, b].index("*")
            wrong.update(names[place:] if method == "generate" else [names[place]])
    rows = {row["position"]: row for row in score["by_position"]}
    assert list(rows) == order
    for name, row in rows.items():
        assert row["problems"] == asked[name]
        assert row["problems"] - row["correct"] == wrong[name]
    assert score["position_kind"] == ("as decoded" if method == "generate" else "given the right answer so far")


@pytest.mark.parametrize("split", ["val", "test"])
def test_split_by_unordered_pair_no_mirror_is_in_training(split):
    task = arithmetic(digits=2)
    score = of_task.score(task, rote(task), split, None, "forced")
    assert score["leak"]["mirrored_in_training"] == score["leak"]["leaked"]["problems"] == 0
    assert score["leak"]["clean"]["problems"] == score["problems"]


@pytest.mark.parametrize("train_size", [None, 1000])
def test_split_by_ordered_pair_the_leak_is_counted(train_size):
    task = arithmetic(digits=2, split="ordered", train_size=train_size)
    trained = set(zip(*map(np.ndarray.tolist, task.problems("train", np.arange(task.size("train")))), strict=True))
    asked = zip(*map(np.ndarray.tolist, task.problems("test", np.arange(task.size("test")))), strict=True)
    leaked = sum((b, a) in trained for a, b in asked)
    score = of_task.score(task, rote(task), "test", None, "forced")
    assert score["leak"]["mirrored_in_training"] == score["leak"]["leaked"]["problems"] == leaked > 0


def test_a_sample_is_scored_by_its_weights():
    task = arithmetic(digits=2)
    short = {(a, b): "===\n" for a, b in np.ndindex(100, 100) if min(a, b) < 10}
    score = of_task.score(task, rote(task, short), "test", 500, "forced")
    assert not score["complete"]
    assert score["problems"] == 500
    assert score["universe"] == task.size("test")
    whole = scoring.choose(task, "test", None)
    share = (np.min(task.problems("test", whole.index), axis=0) >= 10).mean()  # of the problems without a short operand
    assert score["accuracy"] == pytest.approx(share)
    assert score["correct"] / score["problems"] < 0.7
    low, high = score["interval"]
    assert low < share < high
    assert high - low > np.subtract(*wilson(405, 500)[::-1])  # unequal weights tell less


def test_a_score_of_twenty_digits_is_computed_by_the_same_code():
    task = arithmetic(digits=20)
    sample = scoring.choose(task, "test", 40)
    follows = {}
    for a, b in zip(*task.problems("test", sample.index), strict=True):
        follows |= steps(task, *written(task.settings, int(a), int(b)))
    score = of_task.score(task, judge(Rote(task, follows=follows)), "test", 40, "forced")
    assert score["correct"] == score["problems"] == score["forced_equals_decoded"] == 40
    assert score["universe"] == task.universe.count("test") > 10**39
    assert sum(row["problems"] for row in score["by_operand_lengths"]) == 40


# --------------------------------------------------------------------------------------------------------------
# Intervals, shares and what is shown


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3:
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=6e-5)


def test_of_nothing_nothing_is_known():
    assert wilson(0, 0) == (0, 1)
    empty = scoring.Slices(np.zeros(3, bool), np.ones(3)).of(np.zeros(3, bool))
    assert empty == {"problems": 0, "correct": 0, "accuracy": None, "interval": None}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_processes_share_all_samples_without_overlap(size, count):
    shares = [judge(None, World(rank, size, rank, size)).share(count) for rank in range(size)]
    assert [n for share in shares for n in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_few_answers_are_shown_with_their_verdicts():
    task = arithmetic(digits=2)
    a, b = (values.tolist() for values in task.problems("val", np.arange(3)))
    lines = of_task.show(task, rote(task, {(a[1], b[1]): "120\n"}), 3)
    assert lines[0] == f"{a[0]}+{b[0]} = {a[0] + b[0]} ✓"
    assert lines[1] == f"{a[1]}+{b[1]} = 21 ✗ it is {a[1] + b[1]}"
    assert lines[2] == f"{a[2]}+{b[2]} = {a[2] + b[2]} ✓"
    assert len(of_task.show(task, rote(task), 10**6)) == task.val_size


def test_tables_show_every_slice_and_wrong_answer():
    from rich.console import Console

    task = arithmetic(digits=2)
    a, b = (values.tolist() for values in task.problems("test", np.arange(1)))
    score = of_task.score(task, rote(task, {(a[0], b[0]): "===\n"}), "test", None, "forced")
    console = Console(width=150)
    with console.capture() as capture:
        for table in of_task.tables(task, score):
            console.print(table)
    text = capture.get()
    assert f"{a[0]}+{b[0]}" in text
    assert "===" in text
    assert f"{score['accuracy']:.3%}" in text
    for row in (*score["by_carries"], *score["by_longest_carry_run"], *score["by_operand_lengths"]):
        assert f"{row['problems']:,}" in text


def test_the_number_of_a_slice_is_that_of_carries():
    """The slices of a multiplication are those of its columns."""
    task = arithmetic(name="multiplier", digits=1)
    score = of_task.score(task, rote(task), "train", None, "forced")
    a, b = task.problems("train", np.arange(task.size("train")))
    carrying = int((a * b >= 10).sum())
    assert {row["carries"]: row["problems"] for row in score["by_carries"]} == {0: len(a) - carrying, 1: carrying}
    assert decimal.multiply(np.array([[9]]), np.array([[9]]))[1].tolist() == [[8, 0]]
