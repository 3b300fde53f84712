"""Our models in lm-evaluation-harness give what its own Hugging Face model gives on the exported weights."""

import json
import math
import os
import random
from types import SimpleNamespace

import pytest
import torch
import transformers
from helpers.pretrained import save_gpt2
from started.server import LEFT_BY_LIBRARIES

from cleangpt.basics.errors import UserError
from cleangpt.disk import weights
from cleangpt.disk.rundir import read_config
from cleangpt.hf import folder
from cleangpt.machine import launcher
from cleangpt.score.evaluate import Judge
from cleangpt.tokens import exchange, tokenizers

harness = pytest.importorskip("cleangpt.score.harness")

TASKS = {
    "toy_choice": """
dataset_path: json
dataset_kwargs: {data_files: {validation: FOLDER/toy.jsonl}}
validation_split: validation
fewshot_split: validation
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "toy_rolling": """
dataset_path: json
dataset_kwargs: {data_files: {validation: FOLDER/toy.jsonl}}
validation_split: validation
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "toy_written": """
dataset_path: json
dataset_kwargs: {data_files: {validation: FOLDER/toy.jsonl}}
validation_split: validation
output_type: generate_until
generation_kwargs: {until: ["z", "\\n"], max_gen_toks: 9}
doc_to_text: "{{question}}"
doc_to_target: "{{text}}"
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(autouse=True)
def environment_as_it_was():
    """What a library that the harness loads leaves in the environment would be that of all later programs."""
    yield
    for name in LEFT_BY_LIBRARIES:
        os.environ.pop(name, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of ours, the same exported, and tasks with their data."""
    place = tmp_path_factory.mktemp("harness")
    tokenizer = tokenizers.train_bpe(["the quick brown fox jumps over the lazy dog " * 4], 290)
    save_gpt2(place / "theirs", tokenizer)
    folder.import_folder(str(place / "theirs"), place / "ours")
    folder.export_folder(place / "ours", place / "exported", "float32")
    lines = []
    for number in range(12):
        question = "the quick brown fox " * (1 + number % 4) + "jumps" * (number % 2)
        choices = [" over", " the lazy dog", f" {number} dogs", " lazy"]
        text = "the lazy dog jumps over the fox " * (1 + number)
        lines.append({"question": question, "choices": choices, "gold": number % 4, "text": text})
    (place / "tasks").mkdir()
    (place / "toy.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "tasks" / "elsewhere.yaml").write_text(
        f"task: elsewhere{TASKS['toy_choice']}".replace("json", "some/data")
    )
    for name, text in TASKS.items():
        (place / "tasks" / f"{name}.yaml").write_text(f"task: {name}{text}".replace("FOLDER", str(place)))
    return place


@pytest.fixture(scope="module")
def judge(place):
    model = weights.load_model(place / "ours", read_config(place / "ours" / "config.json"), torch.device("cpu"))
    return Judge(model, torch.device("cpu"), launcher.world())


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.slow
def test_every_kind_of_request_is_answered_as_by_the_harness_itself(place, judge, no_network):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    found = harness.score(judge, weights.load_tokenizer(place / "ours"), list(TASKS), str(place / "tasks"), 1, None)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(place / "exported")
    text = transformers.AutoTokenizer.from_pretrained(place / "exported")
    text.pad_token = text.eos_token
    manager = TaskManager(include_path=str(place / "tasks"))
    # Its cache of logits takes windows of one text that read alike, but are scored in different parts, for the same.
    hf = HFLM(pretrained=theirs, tokenizer=text, batch_size=4, device="cpu", logits_cache=False)
    wanted = simple_evaluate(hf, tasks=list(TASKS), num_fewshot=1, task_manager=manager, log_samples=False)["results"]
    assert found["tasks"].keys() == wanted.keys() == TASKS.keys()
    for task, metrics in wanted.items():
        for metric, value in metrics.items():
            if isinstance(value, float) and "stderr" not in metric:
                assert found["tasks"][task][metric] == pytest.approx(value, rel=1e-4), (task, metric)
    assert harness.table(found).row_count == 5


@pytest.mark.slow
def test_the_harness_gives_a_served_model_the_same_scores(place, judge, no_network):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from started.served import Served

    names = ["toy_choice", "toy_written"]
    found = harness.score(judge, weights.load_tokenizer(place / "ours"), names, str(place / "tasks"), 1, None)
    served = Served(place / "ours")
    try:
        asked = {
            "model": served.model,
            "base_url": f"{served.address}/completions",
            "tokenizer": str(place / "exported"),
            "max_length": judge.model.config.context,
            "num_concurrent": 1,
        }
        manager = TaskManager(include_path=str(place / "tasks"))
        told = simple_evaluate(
            "local-completions", model_args=asked, tasks=names, num_fewshot=1, task_manager=manager, log_samples=False
        )
    finally:
        assert served.close() == 0
    for task, metrics in told["results"].items():
        for metric, value in metrics.items():
            if isinstance(value, float) and "stderr" not in metric:
                assert found["tasks"][task][metric] == pytest.approx(value, rel=1e-4), (task, metric)


def requests(*arguments):
    return [SimpleNamespace(args=args, task_name="toy") for args in arguments]


def test_answers_agree_one_by_one_and_long_texts_are_cut_alike(place, judge):
    from lm_eval.models.huggingface import HFLM

    text = transformers.AutoTokenizer.from_pretrained(place / "exported")
    text.pad_token = text.eos_token
    theirs = HFLM(
        transformers.AutoModelForCausalLM.from_pretrained(place / "exported"),
        tokenizer=text,
        batch_size=3,
        device="cpu",
    )
    ours = harness.Model(judge, weights.load_tokenizer(place / "ours"))
    pairs = [("", " the"), ("the quick", " fox"), ("the quick ", "dog"), ("jumps over " * 30, " lazy dog")]
    pairs += [("a", " b c"), ("the quick", " dog"), ("the quick", " fox")]
    for ours_, theirs_ in zip(*(lm.loglikelihood(requests(*pairs), True) for lm in (ours, theirs)), strict=True):
        assert ours_ == (pytest.approx(theirs_[0], rel=1e-4), theirs_[1])
    words = ["over", "the", "lazy", "dog", "jumps", "fox"]
    texts = [(" ".join(random.Random(n).choices(words, k=n)),) for n in (1, 5, 90)]
    rolled = [lm.loglikelihood_rolling(requests(*texts), True) for lm in (ours, theirs)]
    assert rolled[0] == pytest.approx(rolled[1], rel=1e-4)
    how = {"until": ["q", "\n"], "max_gen_toks": 12, "do_sample": False}
    asked = [(context, how) for context in ("the quick", "a dog", "lazy " * 40, "jumps over the fox")]
    written = [lm.generate_until(requests(*asked), True) for lm in (ours, theirs)]
    assert written[0] == written[1]
    assert any(written[0])


def test_what_is_greedy_is_what_decoding_writes(place, judge):
    ours = harness.Model(judge, weights.load_tokenizer(place / "ours"))
    (text,) = ours.generate_until(requests(("the quick", {"until": [], "max_gen_toks": 3})))
    prompt = ours.tok_encode("the quick")
    ids = harness.generate.greedy(judge.model, torch.tensor([prompt]), 3)[0].tolist()
    assert text == ours.ours.decode(ids)
    ((likelihood, greedy),) = ours._loglikelihood_tokens([(None, prompt, ids)])
    assert greedy
    assert math.exp(likelihood) < 1
    assert not ours._loglikelihood_tokens([(None, prompt, [ids[0], ids[1], (ids[2] + 1) % 290])])[0][1]


def test_a_tokenizer_that_begins_every_text_is_obeyed():
    from tokenizers import processors

    learned = tokenizers.train_bpe(["the quick brown fox"], 270)
    data = dict(learned.data)
    data["post_processor"] = json.loads(
        processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]).__getstate__()
    )
    begun = tokenizers.HuggingFace(data, end="!")
    assert exchange.begin(learned) is None
    assert exchange.begin(begun) == 0 != begun.end
    assert exchange.special_ids(begun)["bos_token_id"] == 0


def test_a_score_by_the_harness_is_written_into_the_run(place, no_network, monkeypatch, capsys):
    from cleangpt.config.programs import AskConfig, ScoreConfig
    from cleangpt.score.run import score

    settings = {"run": str(place / "ours"), "suite": "lm-eval", "tasks": "toy_choice", "include": str(place / "tasks")}
    ask = AskConfig(prefix="", temperature=0.0, top_k=None, samples=1)
    settings |= {
        "sets": None,
        "ask": ask,
        "fewshot": 2,
        "limit": 5,
        "split": None,
        "data": None,
        "method": "auto",
        "device": "cpu",
    }
    assert score(ScoreConfig(**settings)) == 0
    found = json.loads((place / "ours" / "score" / "lm-eval_toy_choice_ours.json").read_text())
    assert found["samples"]["toy_choice"]["effective"] == 5
    assert found["fewshot"]["toy_choice"] == 2
    assert "acc_norm" in capsys.readouterr().out
    for wrong, words in (({"data": "x"}, "`data` has no meaning"), ({"tasks": None}, "`tasks` is missing")):
        with pytest.raises(UserError, match=words):
            score(ScoreConfig(**{**settings, **wrong}))
    with pytest.raises(UserError, match="`fewshot` has no meaning with suite=own"):
        score(ScoreConfig(**{**settings, "suite": "own", "tasks": None, "include": None}))


@pytest.mark.slow
def test_tasks_that_are_not_there_and_tasks_that_sample_are_refused(place, judge, no_network):
    tokenizer = weights.load_tokenizer(place / "ours")
    with pytest.raises(UserError, match="did you mean toy_choice"):
        harness.score(judge, tokenizer, ["toy_choise"], str(place / "tasks"), None, None)
    with pytest.raises(UserError, match="no such folder"):
        harness.score(judge, tokenizer, ["toy_choice"], str(place / "nowhere"), None, None)
    with pytest.raises(UserError, match="can't be had"):
        harness.score(judge, tokenizer, ["elsewhere"], str(place / "tasks"), None, None)
    ours = harness.Model(judge, tokenizer)
    with pytest.raises(UserError, match="samples its answers"):
        ours.generate_until(requests(("a", {"do_sample": True, "temperature": 1.0})))
    with pytest.raises(UserError, match="begins or ends a text"):
        harness.Model(judge, tokenizers.Bytes(with_end=False)).loglikelihood(requests(("", "a")), True)
