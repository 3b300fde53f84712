"""Samples that change as training goes on, and what of a sample is learned, against plain Python."""

import numpy as np
import pytest
import torch
from helpers.rote import ALONE
from helpers.sums import laboratory as task
from helpers.sums import questions_of as asked

from cleangpt.basics.errors import UserError
from cleangpt.tasks.contract import Question
from cleangpt.training.stream import Stream

KEY = 7  # of an epoch


def rows_of_a_product(a: str, b: str) -> str:
    """Write the rows of a product, lowest digit first, with the sum so far behind each but the first and the last."""
    base, text = len(a) + 1, ""
    for k, digit in enumerate(b[::-1]):
        row = str(int(a) * int(digit) * 10**k).zfill(base + k)[::-1]
        text += ("+" if k else "") + row
        if 0 < k < len(b) - 1:
            text += "(" + str(int(a) * int(b[len(b) - k - 1 :])).zfill(base + k)[::-1] + ")"
    return text + "."


@pytest.mark.parametrize("digits", [2, [1, 4]], ids=str)
def test_a_chain_of_thought_has_the_rows_of_a_product_on_paper(digits):
    lengths = "value" if digits == 2 else "pair"
    of = task(operation="multiply", format="icot", digits=digits, lengths=lengths, padded=False, reversed=False)
    for question in asked(of, "train", 100):
        a, b = question.text.split("*")
        assert of.tokenizer.decode(question.right) == f"{rows_of_a_product(a, b)}{int(a) * int(b)}\n"
        assert question.read(question.right) == str(int(a) * int(b))
    long = "9" * (2 if digits == 2 else 4)
    nines = of.ask(f"{long}*{long}")
    assert len(nines.tokens) + len(nines.right) - 1 == of.sequence_length


def learned(of, index: np.ndarray) -> list[str]:
    """The texts that training reads at these samples."""
    batch = of.batch("train", index, np.full(len(index), KEY))
    tokens = np.concatenate([batch.inputs[:, :1], batch.targets], axis=1)
    return [of.tokenizer.decode(row.tolist()).rstrip(" ") for row in tokens]


def test_training_leaves_out_one_token_after_another_and_scores_ask_for_the_answer_alone():
    keys = {"operation": "multiply", "format": "icot", "digits": 3, "lengths": "length", "reversed": "all"}
    of = task(**keys, padded=False, remove_after=400, remove_every=100)
    whole = task(**keys, padded=False, remove_after=10**9, remove_every=1)
    index = np.arange(0, 3200, 5)
    ahead = 0
    for sample, text, full in zip(index, learned(of, index), learned(whole, index), strict=True):
        question, rest = full.split("=")
        thought, answer = rest[: rest.index(".")], rest[rest.index(".") :]
        due = 0 if sample < 400 else 1 + (sample - 400) // 100
        left = len(text) - len(question) - 1 - len(answer)
        removed = len(thought) - left
        assert text == f"{question}={thought[removed:]}{answer}"
        if due == 0:
            assert removed == 0
        else:
            assert removed >= min(due, len(thought))
            ahead += removed > min(due, len(thought))
    assert 0 < ahead < 0.06 * len(index), "about one in fifty is ahead of its time"
    for split in ("val", "test"):
        for question in asked(of, split, 50):
            a, b = question.text.split("*")
            assert of.tokenizer.decode(question.right) == f".{str(int(a) * int(b))[::-1]}\n"
            assert of.ask(question.text).right == question.right


def test_parts_of_a_mixture_begin_and_end_with_samples():
    parts = [
        {"digits": 1, "until": 300},
        {"digits": [4, 4], "until": 300},
        {"digits": [3, 3], "since": 200},
        {"digits": [5, 5], "since": 300, "weight": 3},
    ]
    of = task(digits=[1, 5], lengths="pair", padded=False, mixture=parts, test_size=300, val_size=300)
    lengths = np.array([len(text.split("=")[0].split("+")[0]) for text in learned(of, np.arange(2000))])
    assert set(lengths[:200]) == {1, 4}
    assert set(lengths[200:300]) == {1, 3, 4}
    assert set(lengths[300:]) == {3, 5}
    assert (lengths[300:] == 5).mean() == pytest.approx(0.75, abs=0.04)
    for split in ("val", "test"):
        assert {len(q.text.split("+")[0]) for q in asked(of, split, 300)} == {3, 5}, "what is trained on in the end"


def test_seeds_see_samples_of_their_own_at_the_same_place_of_their_training():
    parts = [{"digits": 1, "until": 64}, {"digits": [3, 3], "since": 64}]
    of = task(digits=[1, 3], lengths="pair", padded=False, mixture=parts)
    seen = []
    for seed in (0, 1):
        stream = Stream(of, seed, 32, None, ALONE, torch.device("cpu"))
        rows = [row.inputs for m in range(4) for row in stream.micro_step(m)]
        texts = [of.tokenizer.decode(row.tolist()).split("=")[0] for row in torch.cat(rows)]
        assert [len(text) for text in texts] == [3] * 64 + [7] * 64
        assert len(set(texts[64:])) > 60
        seen.append(texts)
    assert seen[0][64:] != seen[1][64:]


@pytest.mark.parametrize("wrong", [{"digits": 1, "where": {"carries": 9}}, {"digits": 4, "where": {"cascade": 4}}])
def test_a_part_that_begins_later_and_cannot_be_drawn_is_refused_at_once(wrong):
    with pytest.raises(UserError, match=r"dataset\.mixture\.1"):
        task(digits=4, mixture=[{"digits": 2}, {**wrong, "since": 9000}], test_size=20, val_size=20)


# ---- what is learned


def weights(of, question: Question, row: int, split: str = "val") -> list[tuple[str, float]]:
    batch = of.batch(split, np.arange(row + 1))
    return [(of.tokenizer.decode([t]), w) for t, w in zip(batch.targets[row], batch.loss_weights[row], strict=True)]


@pytest.mark.parametrize("loss", ["answer", "conclusion", "all"])
@pytest.mark.parametrize("average", ["tokens", "problems"])
def test_the_loss_is_of_the_tokens_that_it_names_and_weighs_problems_alike_if_asked(loss, average):
    of = task(format="scratchpad", digits=[1, 4], lengths="pair", padded=False, loss=loss, average=average)
    for row, question in enumerate(asked(of, "val", 40)):
        text = of.tokenizer.decode(question.tokens + question.right)
        begin = {"answer": text.index("=") + 1, "conclusion": text.index(".") + 1, "all": 1}[loss]
        assert question.text == text[: text.index("=")]
        assert len(question.tokens) == max(begin, text.index("=") + 1), "what stands before a conclusion is given"
        told = weights(of, question, row)
        assert "".join(token for token, _ in told).startswith(text[1:])
        share = 1.0 if average == "tokens" else 1 / (len(text) - begin)
        right = [share if begin <= place < len(text) else 0.0 for place in range(1, len(told) + 1)]
        assert [weight for _, weight in told] == pytest.approx(right)
