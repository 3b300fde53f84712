"""A run from Python: what is known of it, and what its model says, held against the programs and plain decoding."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.corpora import prepared, prose
from started.from_python import SHORT
from started.programs import run_program

import cleangpt
from cleangpt.basics import files
from cleangpt.library.following import Rows


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    prepared(folder, prose(400))
    words = ("dataset=text", "model=gpt_tiny", {"dataset.dir": str(folder / "data"), "model.block_size": 16})
    return cleangpt.train(*words, SHORT, {"train.batch_size": 4}, path=folder / "r", progress=False)


def decoded(model, tokens, count):
    """The likeliest tokens, one after the other, each read anew."""
    probabilities, tokens = [], list(tokens)
    for _ in range(count):
        shares = model(torch.tensor([tokens]))[0, -1].float().softmax(-1)
        tokens.append(int(shares.argmax()))
        probabilities.append(float(shares.max()))
    return tokens[-count:], probabilities


def test_a_run_tells_what_its_files_tell(trained):
    run, rows = trained
    assert run.summary == json.loads((run.path / "summary.json").read_text())
    assert run.config.train.steps == 6
    assert list(run.metrics.index) == [row["step"] for row in rows]
    assert run.metrics["train/loss"].tolist() == [row["train/loss"] for row in rows]
    html = run._repr_html_()
    assert "completed" in html
    assert "data:image/png;base64" in html
    assert run.plot("lr", x="tokens")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(cleangpt.UserError, match="no column"):
        run.plot("nonsense")


def test_every_folder_with_weights_is_a_run(trained, tmp_path):
    run, _ = trained
    for part in (run.path, run.path / "best", run.path / "final", next((run.path / "snapshots").iterdir())):
        found = cleangpt.Run.load(part)
        assert (found.path, found.status) == (run.path, "completed")
        assert found.tokenizer.vocab_size == run.tokenizer.vocab_size
    shutil.copytree(run.path / "best", tmp_path / "weights")
    alone = cleangpt.Run.load(tmp_path / "weights")
    assert (alone.status, alone.rows, alone.summary) == ("imported", [], {})
    assert alone.ask("1+2").right == "3"
    assert "imported" in alone._repr_html_()
    with pytest.raises(cleangpt.UserError, match="no folder"):
        cleangpt.Run.load(tmp_path / "nowhere")


def test_answers_and_their_probabilities_are_those_of_plain_decoding(trained):
    run, _ = trained
    assert not run.model.training
    for problem in ("1+2", "9+9", "0+7"):
        answer = run.ask(problem)
        assert int(answer.right) == eval(problem)
        one, other = problem.split("+")
        prompt = run.tokenizer.encode(f"{one}+{other}=")
        tokens, probabilities = decoded(run.model, prompt, len(answer.tokens))
        names = [run.tokenizer.decode([token]) for token in tokens]
        assert [name for name in answer.tokens if name != "<end>"] == [
            name for name, token in zip(names, tokens, strict=True) if token != run.tokenizer.end
        ]
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-5)
        assert answer.correct == (answer.text == answer.right)
        first, second = run.next_tokens(problem, k=2)
        assert (first.token, first.probability) == (tokens[0], pytest.approx(probabilities[0], abs=1e-5))
        assert first.probability >= second.probability
        begun = run.next_tokens(f"{problem}={answer.tokens[0]}", k=100)
        assert begun[0].token == tokens[1]
        assert sum(one.probability for one in begun) == pytest.approx(1, abs=1e-4)
    assert "<table" in answer._repr_html_()
    assert "<table" in begun._repr_html_()
    with pytest.raises(cleangpt.UserError):
        run.ask("a+b")


def test_the_text_behind_a_problem_is_its_answer_as_a_person_writes_it(trained):
    run, _ = trained
    answer = run.ask("1+2")
    assert str(run.generate("1+2")) == f"1+2 = {answer.text}"
    assert list(run.stream("1+2")) == [answer.text]
    assert run.generate([]) == []
    for wrong in ("1+2=" + "1" * 9, "1+2=1x"):
        with pytest.raises(cleangpt.UserError):
            run.next_tokens(wrong)
    with pytest.raises(cleangpt.UserError, match="at least 1"):
        run.next_tokens("1+2", k=0)


def test_numbers_of_numpy_will_do(trained):
    run, _ = trained
    assert run.score(limit=np.int64(3))["problems"] == 3
    assert run.generate("1+2", seed=np.int64(3)).text == run.generate("1+2").text


def test_a_run_that_is_gone_says_so(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "r")
    run = cleangpt.Run.load(tmp_path / "r")
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    assert "missing" in repr(run)
    assert "missing" in run._repr_html_()
    with pytest.raises(cleangpt.UserError, match="one of float32, bfloat16, float16"):
        trained[0].export(tmp_path / "hf", dtype="int8")
    assert not (tmp_path / "hf").exists()


def test_texts_are_those_of_the_command(text_run, tmp_path):
    run, how = text_run, {"max_new_tokens": 20, "temperature": 0.9, "seed": 5}
    words = [f"{key}={value}" for key, value in how.items()]
    done = run_program("sample.py", f"run={run.path}", "prompt=the", "stop=zz", *words, cwd=tmp_path)
    text = run.generate("the", stop="zz", **how)
    assert done.stdout == f"{text}\n"
    assert "".join(run.stream("the", stop="zz", **how)) == text.text
    one, two = run.generate(["the", "a"], temperature=0, max_new_tokens=5)
    assert one.text == run.generate("the", temperature=0, max_new_tokens=5).text
    assert (one.prompt, two.prompt) == ("the", "a")
    assert len(run.next_tokens("the")) == 10
    assert "<pre>" in text._repr_html_()
    for wrong in ({"nonsense": 1}, {"temperature": -1}, {"prompts": "file"}):
        with pytest.raises(cleangpt.UserError):
            run.generate("the", **wrong)
    with pytest.raises(cleangpt.UserError, match="use generate"):
        run.ask("1+1")


def test_a_score_is_that_of_the_command(trained, tmp_path):
    run, _ = trained
    score = run.score(split="test", limit=10)
    done = run_program("eval/score.py", f"run={run.path}", "split=test", "limit=10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (stored,) = [path for path in score.files if path.suffix == ".json"]
    theirs = json.loads(stored.read_text())
    apart = ("seconds", "weights", "problems_per_second")
    assert {key: value for key, value in score.items() if key not in apart} == {
        key: value for key, value in theirs.items() if key not in apart
    }
    assert "<table" in score._repr_html_()
    assert "data:image/png" in score._repr_html_()
    drawn = run.score(limit=5, ask={"temperature": 0.5, "samples": 2})
    assert 0 <= drawn["asked"]["pass@1"] <= drawn["asked"]["pass@2"] <= 1
    with pytest.raises(cleangpt.ConfigError, match="limitt"):
        run.score(limitt=5)
    with pytest.raises(cleangpt.UserError, match="does not have"):
        run.score(split="nonsense")


def test_an_export_opens_as_a_model_of_others(trained, tmp_path):
    run, _ = trained
    assert run.export(tmp_path / "hf") == tmp_path / "hf"
    assert json.loads((tmp_path / "hf/config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_rows_come_whole_once_and_also_from_a_file_that_was_written_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = lambda step: json.dumps({"step": step, "train/loss": step / 2})  # noqa: E731
    path.write_text(f"{line(1)}\n{line(2)}\n{line(3)}\n")
    rows = Rows(path)
    assert rows.new() == []
    files.write_text(path, f"{line(1)}\n{line(2)}\n")  # a resume takes away what comes behind its snapshot
    assert rows.new() == []
    with open(path, "a") as file:
        file.write(f'{line(4)}\n{{"step": 5, "tr')
        file.flush()
        assert [row["step"] for row in rows.new()] == [4]
        file.write('ain/loss": 1.0}\n')
        file.flush()
        assert rows.new() == [{"step": 5, "train/loss": 1.0}]
    assert rows.new() == []
    files.write_text(path, f"{line(1)}\n{line(2)}\n{line(6)}\n{line(7)}\n{line(8)}\n")  # and longer before it is seen
    assert [row["step"] for row in rows.new()] == [6, 7, 8]
