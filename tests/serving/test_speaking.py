"""What a page asks of a model: the choices at each token, verdicts digit by digit, and a quiz."""

import pytest
import torch
from helpers.saved_models import asked, saved

from cleangpt.basics.errors import UserError
from cleangpt.sample.choose import Chooser, Sampling
from cleangpt.score.evaluate import wilson
from cleangpt.serving import speaking
from cleangpt.serving.model import Model

HOW = {"temperature": 0.9, "top_k": None, "top_p": None, "min_p": None, "repetition_penalty": 1.0}
HOW |= {"max_new_tokens": 12, "seed": 5}


def opened(folder):
    return Model(folder / "best", asked(f"run={folder}", "dtype=float32").model_dump())


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    return opened(saved(tmp_path_factory.mktemp("speaking") / "letters"))


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speaking") / "sums"
    return opened(saved(folder, tokenizer=None, **{"model.block_size": None, "dataset.digits": 2}))


def told(lines):
    found = list(lines)
    return [what for kind, what in found if kind == "token"], found


def test_the_choices_are_those_that_the_model_had(letters):
    tokens, found = told(speaking.speak(letters, "once", HOW | {"top_k": 3}))
    assert found[0] == ("prompt", {"text": "once", "tokens": [*"once"], "asks": False})
    read = list(letters.tokenizer.encode("once"))
    for one in tokens:
        with torch.inference_mode():
            shares = letters.decoder(torch.tensor([read]))[0, -1, : letters.tokenizer.vocab_size].softmax(-1)
        names = [letters.name_of(token) for token in shares.topk(10).indices.tolist()]
        assert [name for name, _ in one["likeliest"]["before"]] == names
        assert one["likeliest"]["before"][0][1] == pytest.approx(float(shares.max()), rel=1e-4)
        after = one["likeliest"]["after"]
        assert [name for name, _ in after] == names[:3], "top_k=3 leaves three"
        assert sum(share for _, share in after) == pytest.approx(1)
        assert one["name"] in names[:3]
        (token,) = letters.tokenizer.encode(one["name"])
        assert one["share"]["before"] == pytest.approx(float(shares[token]), rel=1e-4)
        read.append(token)


def test_the_text_is_that_of_sample(letters):
    settings = letters.settings.model_copy(update=HOW)
    pieces = letters.text_model.speak(letters.read("once"), settings)
    tokens, found = told(speaking.speak(letters, "once", HOW))
    assert "".join(one["text"] for one in tokens) == "".join(piece.text for piece in pieces)
    assert found[-1] == ("ended", {"why": "length", "slid": False, "verdict": None})
    greedy, _ = told(speaking.speak(letters, "once", HOW | {"temperature": 0.0}))
    assert all(one["likeliest"]["after"] == [(one["name"], 1.0)] for one in greedy)


def test_shares_follow_every_rule():
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0]])
    for how in (
        Sampling(0.7),
        Sampling(1.0, top_k=2),
        Sampling(1.0, top_p=0.6),
        Sampling(1.0, min_p=0.3),
        Sampling(0.8, 3, 0.9, 0.05, 1.5),
    ):
        chooser = Chooser(how, range(20_000), [[0]] * 20_000, 4)
        shares = chooser.shares(logits.expand(20_000, -1))[0]
        drawn = chooser(logits.expand(20_000, -1)).bincount(minlength=4) / 20_000
        torch.testing.assert_close(drawn, shares, atol=0.02, rtol=0)
        assert ((drawn > 0) == (shares > 0)).all()


def test_a_problem_has_a_verdict(sums):
    _, found = told(speaking.speak(sums, "12+34", HOW | {"temperature": "auto"}))
    verdict = found[-1][1]["verdict"]
    question = sums.read("12+34").question
    assert verdict["right"] == "46"
    assert verdict["correct"] == (verdict["given"] == question.read(question.right))


@pytest.mark.parametrize(
    ("given", "right", "marked"),
    [
        ("579", "579", "5+ 7+ 9+"),
        ("589", "579", "5+ 8- 9+"),
        ("79", "579", "_- 7+ 9+"),
        ("1579", "579", "1- 5+ 7+ 9+"),
        ("", "57", "_- _-"),
        ("-3", "-13", "_- -- 3+"),
        ("abc", "abd", "a+ b+ c-"),
        ("ab", "abd", "a+ b+ _-"),
        ("7 5", "75", "7- - 5+"),
    ],
)
def test_digits_are_compared_in_their_places(given, right, marked):
    found = speaking.digits(given, right)
    assert " ".join(f"{digit}{'+' if good else '-'}" for digit, good in found) == marked.replace("- - ", "-  - ")


def test_a_quiz_goes_on_where_it_was_and_repeats_nothing(sums):
    (kind, of), *first = speaking.quiz(sums, 0, 30, 0)
    assert (kind, of["split"]) == ("of", "test")
    right = first[-1][1]["so_far"]
    more = [what for kind, what in speaking.quiz(sums, 30, 10**6, right) if kind == "answer"]
    every = [what for _, what in first] + more
    assert len(every) == of["problems"] == len({one["question"] for one in every}), "all of them, and each once"
    assert every[-1]["number"] == len(every)
    assert every[-1]["so_far"] == sum(one["correct"] for one in every)
    assert every[-1]["interval"] == wilson(every[-1]["so_far"], len(every))
    task = sums.reader.task
    held = {question.text for question in task.questions(task.batch("test", range(task.size("test"))))}
    assert {one["question"] for one in every} == held


def test_there_is_no_quiz_where_nothing_is_right_or_wrong(letters):
    with pytest.raises(UserError, match="not trained on problems"):
        list(speaking.quiz(letters, 0, 1, 0))
