"""conf/ and the code agree: every file composes, every key is explained, and every key is read."""

import ast
import json

import pytest
from helpers.configs import has, look_ahead, small, toy
from helpers.corpora import prose
from helpers.pretrained import save_gpt2
from started.programs import ROOT, on_path, run_program

from cleangpt.basics.schema import keys
from cleangpt.config import experiment, programs
from cleangpt.config.experiment import Config
from cleangpt.tokens.tokenizers import Bytes

CONF = ROOT / "conf"
GROUPS_OF = {
    "template": ("SampleConfig", "sample"),
    "suite": ("BenchConfig", "bench"),
}  # the groups that are not train.py's
ALL_OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in (*CONF.glob("*/*.yaml"), *CONF.glob("bench/*/*.yaml"))
)
OPTIONS = [option for option in ALL_OPTIONS if option.partition("=")[0] not in GROUPS_OF]
SCHEMAS = vars(experiment) | vars(programs)
EXPERIMENTS = [option for option in OPTIONS if option.startswith("experiment=")]
PROGRAMS = sorted([*ROOT.glob("*.py"), *(ROOT / "eval").glob("*.py"), *(ROOT / "data").glob("*.py")])
LIBRARY = sorted((ROOT / "cleangpt").rglob("*.py"))


def started(path) -> list[tuple[str, str]]:
    """List (name of the schema, name of the configuration) of each `cli.start(main, Schema, "name")` in a file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func) == "cli.start"]
    return [(call.args[1].attr, call.args[2].value) for call in calls]


STARTED = {name: schema for schema, name in started(ROOT / "cleangpt" / "programs.py")}


# ---- what is in conf/


@pytest.mark.parametrize("option", ALL_OPTIONS)
def test_every_option_of_every_group_composes_to_a_right_configuration(option):
    schema, name = GROUPS_OF.get(option.partition("=")[0], ("Config", "train"))
    words = [*(["-m"] if option.startswith("sweep=") else []), option]
    assert look_ahead(*words, schema=SCHEMAS[schema], config_name=name) == []


def test_every_program_has_its_file_in_conf_and_every_file_a_program():
    assert sorted(STARTED) == sorted(path.stem for path in CONF.glob("*.yaml"))
    for name, schema in STARTED.items():
        assert look_ahead(schema=SCHEMAS[schema], config_name=name) == [], name


@pytest.mark.parametrize("schema", [SCHEMAS[name] for name in sorted(set(STARTED.values()))])
def test_every_key_has_a_meaning_and_its_default_is_in_conf(schema):
    for key, field in keys(schema).items():
        assert field.description, key
        assert field.is_required(), f"{key} has a default in code, where no user sees it"


def test_every_key_of_the_schema_is_in_some_file_of_conf():
    composed = [
        toy(option) for option in OPTIONS if option.startswith(("model=", "dataset=", "optimizer=", "experiment="))
    ]
    assert [key for key in keys(Config) if not any(has(data, key) for data in composed)] == []


def test_no_configuration_and_no_code_can_name_code_to_run():
    target = "_target" + "_"
    files = [*CONF.rglob("*.yaml"), *LIBRARY, *PROGRAMS]
    assert len(files) > 40
    assert [path for path in files if target in path.read_text()] == []
    assert look_ahead(f"+model.{target}=os.system") != []


# ---- what is in conf/ runs, and is read

# Runs commands in one process, notes which keys are read, and writes down which are not, and how each command
# ended. Reading by the schema itself does not count. `planted` is a key that nothing reads.
RECORDER = """
import json, pathlib, runpy, sys, traceback
from pydantic import create_model
from cleangpt.config import experiment, programs
from cleangpt.basics import schema
from cleangpt.models import settings as models
from cleangpt.optimizers import settings as optimizers

read, own = set(), {module.__file__ for module in (experiment, programs, schema, models, optimizers)}

def called(section):
    return f"{section.__module__}.{section.__name__}"

def recording(self, name):
    if name in type(self).model_fields and sys._getframe(1).f_code.co_filename not in own:
        read.add((called(type(self)), name))
    return super(schema.Section, self).__getattribute__(name)

schema.Section.__getattribute__ = recording
Train = create_model("Train", __base__=experiment.TrainConfig, planted=(int, 1))
for module, name in ((experiment, "Config"), (programs, "BenchConfig")):
    setattr(module, name, create_model(name, __base__=getattr(module, name), train=(Train, ...)))

ends = []
for sys.argv in json.loads(sys.argv[1]):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        ends.append(end.code)
    except Exception:
        traceback.print_exc()
        ends.append(1)

def unread(section, prefix=""):
    for name, field in section.model_fields.items():
        inner = schema.sections_of(field.annotation)
        for branch in inner:
            yield from unread(branch, f"{prefix}{name}.")
        if not inner and (called(section), name) not in read:
            yield f"{prefix}{name} of {called(section)}"

schemas = (experiment.Config, programs.ScoreConfig, programs.PrepareConfig, programs.ReportConfig)
schemas += (programs.ExportConfig, programs.SampleConfig, programs.BenchConfig)
unread = sorted({name for section in schemas for name in unread(section)})
pathlib.Path("found.json").write_text(json.dumps({"ends": ends, "unread": unread}))
"""


def stand_ins(folder) -> dict[str, list[str]]:
    """Write small texts in the place of those that experiments train on; the commands that prepare them."""
    (folder / "one.txt").write_text(prose(1000), encoding="utf-8")
    (folder / "records").mkdir()
    records = [json.dumps({"text": prose(20, seed)}) + "\n" for seed in range(100)]
    (folder / "records" / "part.jsonl").write_text("".join(records))
    common = ["workers=1", "dataset.val_fraction=0.2"]
    sources = {
        "shakespeare_char": ["dataset.source=one.txt"],
        "shakespeare": ["dataset.source=one.txt", "dataset.tokenizer=bytes"],
        "tinystories": ["dataset.source=records", "dataset.val_source=one.txt", "dataset.bpe_vocab_size=300"],
        "openwebtext": ["dataset.source=hf:records", "dataset.tokenizer=bytes", "dataset.test_fraction=0.2"],
    }
    return {name: ["data/prepare.py", f"dataset={name}", *words, *common] for name, words in sources.items()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Make a short run of each experiment, and of each model; found.json tells of them."""
    folder = tmp_path_factory.mktemp("ran")
    commands = stand_ins(folder)
    save_gpt2(folder / "pretrained", Bytes(with_end=False))
    for option in EXPERIMENTS:
        smaller = {**small(toy(option)), "train.steps": 2, "train.test_at_end": False, "logger.plots": False}
        if "test_size" in toy(option)["dataset"]:
            smaller |= {"dataset.test_size": 20, "dataset.val_size": 20, "dataset.sets": None}
        if toy(option)["init_from"] is not None:  # whose architecture is its own
            smaller = {key: value for key, value in smaller.items() if not key.startswith("model.")}
            smaller["init_from"] = "pretrained"
        commands[option] = ["train.py", option, *(f"{key}={json.dumps(value)}" for key, value in smaller.items())]
    common = [f"schedule.{name}.style=power" for name in ("lr", "weight_decay", "grad_accum")]
    common += ["dataset.digits=1", "model.n_layer=1", "train.steps=3", "train.batch_size=8", "device=cpu"]
    for model in ("llama_tiny", "gpt_tiny", "llama_long", "lstm"):
        commands[model] = ["train.py", f"model={model}", "logger=quiet", "train.test_at_end=false", *common]
    for task in ("copy", "sort"):
        commands[task] = ["train.py", f"dataset={task}", *commands["gpt_tiny"][1:4], "train.steps=3", "device=cpu"]
    falls = "train.stop_when={metric:val/loss,at_most:1,times:1}"
    commands["adamw"] = [*commands["gpt_tiny"], "optimizer=adamw", falls]
    commands["packed"] = [*commands["gpt_tiny"], "dataset.layout=packed"]
    diverge = ["schedule=constant", "optimizer=adamw", "optimizer.lr=1e38"]
    diverge += ["train.nonfinite=skip", "train.nonfinite_limit=1"]
    commands["logs"] = [*commands["gpt_tiny"], "logger.wandb=true"]
    commands["diverges"] = [*commands["gpt_tiny"], *diverge]
    for name, words in commands.items():
        if words[0] == "train.py":
            words.append(f"hydra.run.dir={name.replace('=', '_')}")
    commands["score"] = ["eval/score.py", "run=gpt_tiny"]
    commands["sample"] = ["sample.py", "run=gpt_tiny", "temperature=1.0", "top_k=5", "output=answers.txt"]
    commands["says"] = ["sample.py", "run=gpt_tiny", "prompt=1+2"]
    commands["export"] = ["export.py", "run=gpt_tiny", "out=exported"]
    commands["import"] = ["export.py", "run=exported", "format=cleangpt", "out=imported"]
    commands["import text"] = ["export.py", "run=pretrained", "format=cleangpt", "out=gpt2"]
    commands["score it"] = ["eval/score.py", "run=gpt2", "data=data/shakespeare", "split=val"]
    quick = ["model=gpt_tiny", "logger=quiet", "rounds=1", "seconds=0.01", "startup=false", *common]
    commands["bench"] = ["bench.py", "against=null", *quick]  # a planted class can not go to another process
    commands["bench decoding"] = ["bench.py", "what=decode", "batches=[1]", *quick]
    commands["bench page"] = ["bench.py", "what=page", "runs=2", *quick]
    commands["report"] = ["eval/report.py", "runs=[gpt_tiny,llama_tiny,diverges]"]
    (folder / "record.py").write_text(RECORDER)
    told = json.dumps([[str(ROOT / script), *words] for script, *words in commands.values()])
    environment = {**on_path(ROOT), "WANDB_MODE": "offline"}
    done = run_program(folder / "record.py", told, cwd=folder, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    found["ends"] = dict(zip(commands, found["ends"], strict=True))
    return folder, found, done.stderr


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_every_experiment_trains(ran, option):
    folder, found, stderr = ran
    assert found["ends"][option] == 0, stderr
    run = folder / option.replace("=", "_")
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("completed", 2)
    assert summary["best/step"] == 2
    stored, asked = json.loads((run / "config.json").read_text()), toy(option)
    assert [stored[group]["name"] for group in ("dataset", "model")] == [
        asked[group]["name"] for group in ("dataset", "model")
    ]


def test_every_key_is_read_by_the_code_that_it_is_for(ran):
    _, found, stderr = ran
    assert [name for name, end in found["ends"].items() if end] == ["diverges"], stderr
    assert found["unread"] == ["train.planted of __main__.Train"]
