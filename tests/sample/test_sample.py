"""sample.py: every way in, every way out, and what a person gets wrong."""

import json
import os
import re
import sys

import pytest
from helpers.configs import look_ahead
from helpers.saved_models import LETTERS, asked, opened, saved, three_runs
from helpers.sums import arithmetic
from helpers.trainings import AMX, cpuinfo
from started.programs import run_program

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.config import command_line
from cleangpt.config.programs import SampleConfig
from cleangpt.disk.rundir import find
from cleangpt.machine import device
from cleangpt.sample import prompts, text_model
from cleangpt.snapshots import snapshot
from cleangpt.tokens.tokenizers import Characters


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return three_runs(tmp_path_factory.mktemp("runs"))


def say(run: str, *words: str, capsys) -> list[str]:
    """The lines that a command prints, without the program around it."""
    settings = asked(f"run={run}", *words)
    found, trained, reader = opened(run)
    given = prompts.given(settings, reader)
    assert text_model.answer(text_model.TextModel(found, trained, reader, settings), given, settings) == 0
    return capsys.readouterr().out.split("\n")


# ---- the command line

ODD = [
    "123+456",
    "To be, or not: {x}=1",
    "it's",
    '"quoted"',
    "'quoted'",
    "a\\",
    "\\'",
    "${seed} and \\${seed} and ${oc.env:HOME}",
    "[1, 2]",
    "{a: 1}",
    "(glob(*)",
    "a,b",
    "key=value",
    "  spaces  ",
    "two\nlines\t",
    "1e5",
    "true",
    "#!%&;<>|~?",
    "é€😀",
    "",
]


@pytest.mark.parametrize("text", ODD)
def test_every_character_of_a_prompt_arrives(text):
    assert asked(f"prompt={text}").prompt == text
    template = asked("template=style", f"template.style={text}").template
    assert prompts.around(template, "x{style}") == f"style:{text} | x{{style}}"
    assert (
        look_ahead(command_line.as_it_stands(f"prompt={text}", SampleConfig), schema=SampleConfig, config_name="sample")
        == []
    )


def test_paths_and_stop_strings_arrive_too():
    settings = asked("run=a=b,c/{d}", "prompts=my prompts.txt", r"stop=\n\n")
    assert (settings.run, settings.prompts) == ("a=b,c/{d}", "my prompts.txt")
    assert text_model.stops(settings) == ["\n\n"]
    assert text_model.stops(asked(r"stop=[Q:,'a, b']")) == ["Q:", "a, b"]
    assert text_model.stops(asked("stop=Q: {")) == ["Q: {"]
    assert text_model.stops(asked()) == text_model.stops(asked("stop=null")) == []
    assert asked("prompt=null").prompt is None


WRONG = {
    "temprature=2": "`temprature` is not a key: did you mean `temperature`?",
    "temperature=-1": "`temperature` must be a number of at least 0 or auto, not -1",
    "top_p=0": "`top_p` must be a number above 0 up to 1 or null, not 0",
    "top_k=1.5": "`top_k` must be a whole number of at least 1 or null, not 1.5",
    "stop=[1]": "`stop` must be text or a list of text or null, not [1]",
    "output=x.csv": "`output` must end with .jsonl or .txt, and x.csv does not",
    "template=sad": "`template=sad` does not exist: there are emotion, plain, style",
    "template.emotion=sad": "`template` has a value for emotion, which its pattern '{text}' lacks: there are no names",
    "template.pattern=x": "`template` needs a pattern with one {text} in it, and 'x' has 0",
    "template.pattern={who}: {text}": "`template` has no value for who of its pattern: add template.who=…",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_key_or_value_is_named(word):
    word_as_read = command_line.as_it_stands(word, SampleConfig)
    (sentence,) = look_ahead(word_as_read, schema=SampleConfig, config_name="sample")
    assert sentence.startswith(WRONG[word])


@pytest.mark.parametrize("words", [("prompt=a", "prompts=b"), ("interactive=true", "prompt=a")])
def test_two_ways_in_at_once_are_refused(words):
    with pytest.raises(ConfigError, match="leave"):
        asked(*words)


# ---- ways in


def test_a_prompt_in_a_file_loses_its_last_newline_only(runs, tmp_path):
    (tmp_path / "p q.txt").write_bytes("\ufeffto be\nor \n\n".encode())
    _, _, reader = opened(runs.letters)
    (prompt,) = prompts.given(asked(f"prompt=@{tmp_path}/p q.txt"), reader)
    assert prompt.text == "to be\nor \n"
    assert reader.tokenizer.decode(prompt.tokens) == prompt.text


def test_prompts_are_the_lines_that_are_not_blank(runs, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffone\r\n\n  \nté\u2028 €\nlast".encode())
    _, _, reader = opened(runs.bytes)
    found = prompts.given(asked(f"prompts={path}", "template=emotion"), reader)
    assert [prompt.text for prompt in found] == [f"emotion:happy | {text}" for text in ("one", "té\u2028 €", "last")]


def test_standard_input_is_read_where_it_is_a_pipe(runs, monkeypatch):
    _, _, reader = opened(runs.letters)
    for words in ((), ("prompt=-",)):
        read, write = os.pipe()
        os.write(write, b"to be\n")
        os.close(write)
        with os.fdopen(read) as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            assert [prompt.text for prompt in prompts.given(asked(*words), reader)] == ["to be"]
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert [prompt.text for prompt in prompts.given(asked(), reader)] == [""]


def test_several_problems_are_several_prompts_and_several_lines_of_text_are_one(runs, monkeypatch, tmp_path):
    def piped(run: str, text: bytes, *words: str):
        (tmp_path / "in.txt").write_bytes(text)
        with (tmp_path / "in.txt").open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            return [prompt.text for prompt in prompts.given(asked(*words), opened(run)[2])]

    for words in ((), ("prompt=-",), (f"prompt=@{tmp_path / 'in.txt'}",)):
        assert piped(runs.adder, b"1+1=\r\n\n22+2\n", *words) == ["1+1", "22+2"]
        assert piped(runs.letters, b"to be\nor\n", *words) == ["to be\nor"]
        assert len(piped(runs.adder, b"\n \n", *words)) == prompts.EXAMPLES, "nothing is asked"
    with pytest.raises(UserError, match=r"^standard input, line 2: this model knows sums only"):
        piped(runs.adder, b"1+1\n1*2\n")


def test_without_a_prompt_a_model_begins_by_itself(runs, tmp_path):
    def natural(run, text=""):
        return prompts.given(asked(f"prompt={text}"), opened(run)[2])

    assert [prompt.tokens for prompt in natural(runs.letters)] == [LETTERS.encode("\n")]
    assert [prompt.tokens for prompt in natural(runs.bytes)] == [[256]]
    few = saved(tmp_path / "few", Characters([*"abc"]))
    assert [prompt.tokens for prompt in natural(str(few))] == [[0]]
    (styled,) = prompts.given(asked("template=style", "prompt="), opened(runs.letters)[2])
    assert styled.text == "style:plain | "
    found = natural(runs.adder)
    assert len(found) == prompts.EXAMPLES
    task = arithmetic(digits=2)
    for prompt in found:
        a, b = map(int, prompt.text.split("+"))
        assert task.locate("val", *(prompts_of([x]) for x in (a, b)))[0]


def prompts_of(values):
    import numpy as np

    return np.array(values)


def test_a_token_that_begins_every_text_is_put_there(runs, monkeypatch):
    monkeypatch.setattr(prompts.exchange, "begin", lambda tokenizer: 5)
    reader = opened(runs.letters)[2]
    assert reader.read("ab", asked().template).tokens == [5, *LETTERS.encode("ab")]
    assert reader.natural()[0].tokens == [5]


# ---- arithmetic


@pytest.mark.parametrize("name", ["adder", "multiplier"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("reversed_", [True, False])
@pytest.mark.parametrize("digits", [3, 20])
def test_a_problem_is_asked_as_in_training(name, padded, reversed_, digits):
    from helpers.sums import settings, written

    task = arithmetic(name=name, padded=padded, reversed=reversed_, digits=digits, val_fraction=0.05)
    for a, b in ((123, 45), (0, 7), (999, 999)):
        question = task.ask(f" {a:04d} {'+' if name == 'adder' else '×'} {b}= ")
        wanted, right = written(settings(name=name, padded=padded, reversed=reversed_, digits=digits), a, b)
        assert task.tokenizer.decode(question.tokens) == wanted
        assert task.tokenizer.decode(question.right) == right
        assert question.new_tokens >= len(right)
        answer = str(a + b if name == "adder" else a * b)
        assert question.verdict(question.right) == f"{task.question(a, b)} = {answer} ✓"
        wrong = [*question.right[:-2], (question.right[-2] + 1) % 10, question.right[-1]]
        assert f"✗ it is {answer}" in question.verdict(wrong)
        assert not question.is_right(question.right[:-1])


@pytest.mark.parametrize(
    "text", ["12", "1-2", "1*2", "a+b", "", "1+2+3", "1.5+2", "٣+٤", "-1+2", "1+123", "9" * 5000 + "+1"]
)
def test_what_is_no_problem_for_the_model_is_refused_in_a_sentence(text):
    with pytest.raises(UserError) as refused:
        arithmetic(digits=2).ask(text)
    assert len(str(refused.value)) < 5200
    assert "\n" not in str(refused.value)


def test_answers_of_an_adder_are_marked(runs, capsys, tmp_path):
    assert re.fullmatch(r"12\+34 = .*(✓|✗ it is 46)", say(runs.adder, "prompt=12+34", capsys=capsys)[0])
    (tmp_path / "p.txt").write_text("1+2\n30+4\n99+99\n")
    out = tmp_path / "out.jsonl"
    say(runs.adder, f"prompts={tmp_path}/p.txt", f"output={out}", capsys=capsys)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["prompt"], row["right"]) for row in rows] == [("1+2", "3"), ("30+4", "34"), ("99+99", "198")]
    assert all(row["correct"] == (row["text"] == row["right"]) or not row["correct"] for row in rows)


def test_another_tokenizer_than_the_tasks_makes_it_text(runs):
    assert opened(runs.adder)[2].task is not None
    assert opened(runs.letters)[2].task is None


# ---- ways out


def test_one_text_comes_after_its_prompt(runs, capsys):
    words = ("prompt=to be", "max_new_tokens=12", "seed=3")
    text = "\n".join(say(runs.letters, *words, capsys=capsys))
    assert text.startswith("to be")
    assert len(text) == len("to be") + 12 + 1
    assert text == "\n".join(say(runs.letters, *words, "temperature=0.8", capsys=capsys))
    assert text != "\n".join(say(runs.letters, *words, "temperature=0", capsys=capsys))
    assert text != "\n".join(say(runs.letters, *words, "seed=4", capsys=capsys))


def test_texts_of_many_prompts_are_those_of_each_alone(runs, capsys, tmp_path):
    lines = ["a longer prompt than the others", "b", "to be, or not to be", "c"]
    (tmp_path / "p.txt").write_text("\n".join(lines))
    common = ("max_new_tokens=9", "num_samples=2", "top_k=8", "temperature=1.5")
    files = [tmp_path / name for name in ("one.jsonl", "all.jsonl", "all.txt")]
    for batch, out in zip((1, 64, 3), files, strict=True):
        say(runs.letters, f"prompts={tmp_path}/p.txt", f"output={out}", f"batch_size={batch}", *common, capsys=capsys)
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert rows == [json.loads(line) for line in files[0].read_text().splitlines()]
    assert [(row["prompt"], row["sample"]) for row in rows] == [(line, n) for line in lines for n in (0, 1)]
    assert all(row["tokens"] == len(row["text"]) == 9 and row["ended"] == "length" for row in rows)
    assert len({row["text"] for row in rows}) == len(rows)
    texts = files[2].read_text().split(f"\n{text_model.RULE}\n")
    assert texts == [*(row["prompt"] + row["text"] for row in rows), ""]


def test_stop_strings_and_penalties_act(runs, capsys):
    greedy = ("prompt=to be", "temperature=0", "max_new_tokens=40")
    text = "\n".join(say(runs.letters, *greedy, capsys=capsys))[len("to be") : -1]
    stop = text[10:12]
    assert "\n".join(say(runs.letters, *greedy, f"stop={stop}", capsys=capsys))[5:-1] == text[: text.find(stop)]
    penalised = "\n".join(say(runs.letters, *greedy, "repetition_penalty=100", capsys=capsys))[5:-1]
    assert len(set(penalised[:20])) == 20


def test_a_text_that_outgrows_the_context_says_so(runs, capsys):
    settings = asked(f"run={runs.letters}", "prompt=a", "max_new_tokens=60")
    found, trained, reader = opened(runs.letters)
    text_model.answer(text_model.TextModel(found, trained, reader, settings), prompts.given(settings, reader), settings)
    assert "outgrew the context of 48 tokens" in capsys.readouterr().err


def test_dtype_and_compile_are_honoured(runs, monkeypatch):
    import torch

    compiled = []
    monkeypatch.setattr(torch, "compile", lambda step, **how: (compiled.append(how), step)[1])
    found, trained, reader = opened(runs.letters)
    voice = text_model.TextModel(found, trained, reader, asked("dtype=bfloat16", "compile=true"))
    assert {parameter.dtype for parameter in voice.model.parameters()} == {torch.bfloat16}
    assert compiled == [{"dynamic": True}]


def test_dtype_auto_is_decided_by_the_processor_and_the_size_of_the_model(runs, tmp_path, monkeypatch):
    found, trained, reader = opened(runs.letters)
    cpuinfo(monkeypatch, tmp_path, AMX)
    for large, wanted in ((0, "bfloat16"), (10**9, "float32")):
        monkeypatch.setattr(device, "LARGE", large)
        model = text_model.TextModel(found, trained, reader, asked("dtype=auto", "device=cpu"))
        assert model.compute.dtype_name == wanted


# ---- mistakes


MISTAKES = [
    ("letters", ["prompt=To be"], "the prompt: the model's vocabulary has no 'T': it knows"),
    ("letters", [f"prompt={'a' * 49}"], "the prompt has 49 tokens, and the model reads 48 at most"),
    ("letters", ["prompt=@nothing.txt"], "prompt: nothing.txt can't be read"),
    ("letters", ["prompts=nothing.txt"], "prompts: nothing.txt can't be read"),
    ("adder", ["prompt=1+234"], "the prompt: 234 has 3 digits, and this model learned numbers of at most 2"),
    ("adder", ["prompt=1*2"], "the prompt: this model knows sums only"),
]


@pytest.mark.parametrize(("run", "words", "sentence"), MISTAKES)
def test_a_prompt_that_the_model_cannot_read_is_refused(runs, run, words, sentence):
    with pytest.raises(UserError) as refused:
        prompts.given(asked(*words), opened(getattr(runs, run))[2])
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_a_file_with_a_wrong_line_or_wrong_bytes_is_refused(runs, tmp_path):
    reader = opened(runs.letters)[2]
    path = tmp_path / "p.txt"
    for data, words in ((b"ab\n\nA\n", "line 3: the model's"), (b"a\xff", "UTF-8.*byte 1"), (b"\n \n", "no line")):
        path.write_bytes(data)
        with pytest.raises(UserError, match=words):
            prompts.given(asked(f"prompts={path}"), reader)


def test_weights_that_are_missing_or_damaged_are_refused(tmp_path):
    run = saved(tmp_path / "run")
    os.truncate(run / "best" / "model.safetensors", 1000)
    found, trained, reader = opened(str(run))
    with pytest.raises(UserError, match="can't be read as weights"):
        text_model.TextModel(found, trained, reader, asked())
    (run / "best" / snapshot.MANIFEST).write_text("{}")
    with pytest.raises(UserError, match=r"is damaged .*use another snapshot"):
        snapshot.refuse_damage(run / "best")
    (run / "best" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer"):
        opened(str(run))
    (run / "best" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights yet"):
        find(str(run))
    with pytest.raises(UserError, match="there is no folder"):
        text_model.refuse_unwritable(str(tmp_path / "no" / "x.txt"))


def test_the_program_writes_texts_to_its_output_and_all_else_beside_it(runs, tmp_path):
    done = run_program("sample.py", f"run={runs.letters}", "prompt=a: 1,2", "max_new_tokens=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(?s)a: 1,2.{5}\n", done.stdout)
    assert done.stderr.count("\n") == 1
    assert "step 7" in done.stderr
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    without_torch = {"PYTHONPATH": str(tmp_path)}
    done = run_program("sample.py", f"run={runs.letters}", "prompt={X}", cwd=tmp_path, env=without_torch, light=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("the prompt: the model's vocabulary has no")
    assert [path.name for path in tmp_path.iterdir()] == ["torch"]
