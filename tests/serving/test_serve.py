"""A served model writes what sample.py writes, gives what our own scoring gives, and has one thing to do at a time."""

import json
import multiprocessing
import queue
import re
import threading

import httpx
import numpy as np
import openai
import pytest
import torch
from started.programs import run_program

import cleangpt
from cleangpt.basics.errors import UserError
from cleangpt.serving import address, app, worker
from cleangpt.serving import run as serving
from cleangpt.serving.engine import Failed


def client(served):
    return openai.OpenAI(base_url=served.address, api_key="none", max_retries=0)


def complete(served, **asked):
    return client(served).completions.create(model=served.model, **asked)


def test_a_client_finds_the_model(text):
    (model,) = client(text).models.list().data
    assert model.id == text.model == "letters/best"
    assert client(text).models.retrieve("letters/best").id == "letters/best"


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 0.9, "top_p": 0.7}])
def test_the_text_is_that_of_sample(text, tmp_path, how):
    (tmp_path / "prompts.txt").write_text("one\na tale of\n")
    words = [f"{key}={value}" for key, value in how.items()]
    asked = ("prompts=prompts.txt", "num_samples=2", "max_new_tokens=30", "seed=3", "output=out.jsonl", *words)
    done = run_program("sample.py", f"run={text.folder}", "dtype=float32", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    ours = complete(text, prompt=["one", "a tale of"], n=2, max_tokens=30, seed=3, **how)
    assert [choice.text for choice in ours.choices] == theirs
    assert [choice.index for choice in ours.choices] == [0, 1, 2, 3]
    assert {choice.finish_reason for choice in ours.choices} <= {"length", "stop"}
    streamed = ["", ""]
    for piece in complete(text, prompt="one", n=2, max_tokens=30, seed=3, stream=True, **how):
        streamed[piece.choices[0].index] += piece.choices[0].text
    assert streamed == theirs[:2]


def test_it_stops_before_a_text_and_counts(text):
    whole = complete(text, prompt="a", max_tokens=40, temperature=0).choices[0].text
    stop = whole[10:13]
    stopped = complete(text, prompt="a", max_tokens=40, temperature=0, stop=stop)
    assert stopped.choices[0].text == whole[: whole.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage.prompt_tokens == 1
    assert stopped.usage.total_tokens == 1 + stopped.usage.completion_tokens


def test_probabilities_are_those_of_the_model(text):
    run = cleangpt.Run.load(text.folder)
    prompt = run.tokenizer.encode("once upon")
    found = complete(text, prompt=[list(prompt)], max_tokens=3, temperature=0, logprobs=2, echo=True).choices[0]
    assert found.text.startswith("once upon")
    tokens = list(run.tokenizer.encode(found.text))
    with torch.inference_mode():
        table = run.model(torch.tensor([tokens]))[0].log_softmax(-1)
    expected = [float(table[n, token]) for n, token in enumerate(tokens[1:])]
    told = found.logprobs
    assert told.token_logprobs[0] is None
    np.testing.assert_allclose(told.token_logprobs[1:], expected, atol=1e-4)
    assert "".join(told.tokens) == found.text
    places = zip(told.text_offset, told.tokens, strict=True)
    assert [found.text[at : at + len(token)] for at, token in places] == told.tokens
    for row, best in zip(table, told.top_logprobs[1:], strict=False):
        np.testing.assert_allclose(max(best.values()), float(row.max()), atol=1e-4)
    behind = complete(text, prompt="once upon", max_tokens=3, temperature=0, logprobs=0).choices[0].logprobs
    np.testing.assert_allclose(behind.token_logprobs, expected[-3:], atol=1e-4)
    nothing = complete(text, prompt="once upon", max_tokens=0, logprobs=1, echo=True).choices[0]
    assert nothing.text == "once upon"
    np.testing.assert_allclose(nothing.logprobs.token_logprobs[1:], expected[:8], atol=1e-4)


def test_a_problem_is_answered_as_a_person_reads_it(sums):
    answer = cleangpt.Run.load(sums.folder).ask("1+2")
    assert complete(sums, prompt="1+2", max_tokens=16, temperature=0).choices[0].text == answer.text
    pieces = [piece.choices[0].text for piece in complete(sums, prompt="1+2", temperature=0, stream=True)]
    assert pieces == [answer.text]
    with pytest.raises(openai.BadRequestError, match="banana"):
        complete(sums, prompt="banana")


def test_what_is_not_supported_is_refused_by_name(text):
    for asked in ({"best_of": 3}, {"logit_bias": {"1": 5}}, {"suffix": "x"}, {"frequency_penalty": 0.5}):
        with pytest.raises(openai.BadRequestError, match=f"`{next(iter(asked))}` is not supported"):
            complete(text, prompt="a", **asked)
    assert complete(text, prompt="a", best_of=1, frequency_penalty=0, max_tokens=1, user="me").choices
    wrong = {"logprobs": 21, "n": 0, "temperature": -1, "max_tokens": 10**9, "top_p": 0, "seed": -1, "stop": ""}
    for asked in ({"prompt": [10**6]}, {"prompt": []}, *({name: value} for name, value in wrong.items())):
        with pytest.raises(openai.BadRequestError):
            complete(text, **{"prompt": "a", **asked})
    with pytest.raises(openai.BadRequestError, match="at most"):
        complete(text, prompt="a" * 60)
    with pytest.raises(openai.NotFoundError, match="letters/best"):
        client(text).completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        client(text).chat.completions.create(model=text.model, messages=[])
    for body in (b"", b"[]", b"{", b'{"model": "letters/best", "prompt": NaN}', b"[" * 100_000):
        found = httpx.post(f"{text.address}/completions", content=body, headers={"content-type": "application/json"})
        assert found.status_code == 400, body
        assert found.json()["error"]["message"]


def test_a_request_that_fails_takes_nobody_with_it(monkeypatch):
    def write(asked):
        yield "read", asked
        if asked == "too much":
            raise MemoryError("no room")

    monkeypatch.setattr(worker, "opened", lambda *_: {"about": dict, "complete": write})
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("cleangpt.machine.guard.leave_with_parent", lambda _: None)
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=worker.work, args=(theirs, "folder", {}))
    thread.start()
    assert ours.recv() == ("ready", {})
    for number, asked, last in ((1, "too much", ("failed", "MemoryError: no room")), (2, "less", ("end", None))):
        ours.send((number, ("complete", asked)))
        assert ours.recv() == (number, "read", asked)
        assert ours.poll(30)
        assert ours.recv() == (number, *last)
    ours.close()
    thread.join(30)
    assert not thread.is_alive()
    assert app.told(Failed("no room")).status == 500


def test_requests_wait_in_a_line_and_a_stream_that_is_closed_makes_room(text):
    """One is written, one waits, the third is told to come back: waiting=1."""
    first = complete(text, prompt="a", max_tokens=16_000, temperature=0, stream=True)
    pieces = iter(first)  # which closes the stream when it is gone
    next(pieces)
    told = queue.Queue()

    def ask():
        try:
            told.put(complete(text, prompt="a", max_tokens=2, temperature=0).choices[0].text)
        except openai.RateLimitError as error:
            told.put(error)

    both = [threading.Thread(target=ask) for _ in range(2)]
    for thread in both:
        thread.start()
    assert "too many requests" in str(told.get(timeout=60)), "whichever came later"
    assert told.empty(), "the other one waits"
    first.close()
    assert told.get(timeout=60) == complete(text, prompt="a", max_tokens=2, temperature=0).choices[0].text
    for thread in both:
        thread.join()


def test_an_address_beyond_this_machine_asks_for_a_token(text):
    served = type(text)(text.folder, "host=0.0.0.0", "token=of-sixteen-letters")
    try:
        assert "Authorization: Bearer of-sixteen-letters" in served.said
        address = re.sub(r"//[^:]+:", "//127.0.0.1:", served.address)
        assert httpx.get(f"{address}/models").status_code == 401
        knows = {"Authorization": "Bearer of-sixteen-letters"}
        assert httpx.get(f"{address}/models", headers=knows).status_code == 200
    finally:
        assert served.close() == 0


def test_a_port_that_is_taken_is_refused_or_passed_over():
    bound = address.bound("127.0.0.1", 0)
    with pytest.raises(UserError, match="choose another port"):
        address.bound("127.0.0.1", bound.getsockname()[1])
    bound.close()
    first, second = (address.bound("127.0.0.1", None) for _ in range(2))
    assert first.getsockname()[1] != second.getsockname()[1] >= address.FIRST_PORT
    first.close()
    second.close()


def test_a_run_without_weights_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "run").mkdir()
    done = run_program("serve.py", "run=run", cwd=tmp_path)
    assert done.returncode == 2
    assert "run=run is no run directory" in done.stderr


def test_it_is_refused_where_its_process_could_not_be_heard(monkeypatch):
    monkeypatch.delattr("os.setsid")
    with pytest.raises(UserError, match="WSL"):
        serving.serve(None)
