"""Tasks, models and optimizers are found by looking, and torch waits until a model is built."""

import subprocess
import sys
import textwrap

import pytest

from cleangpt.basics import found

FILE = '''
"""A model of somebody's own."""

from typing import Literal

from pydantic import Field

from cleangpt.basics.schema import Section


class Settings(Section):
    name: Literal["mine"] = Field(description="the architecture")


from torch import nn


class Model(nn.Identity):
    def __init__(self, settings):
        super().__init__()
        assert type(settings) is Settings
'''


def write(folder, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


def ask(folder, code: str) -> str:
    """Return what a fresh Python prints; the room lies in `folder`."""
    begin = f"import sys; sys.path.insert(0, {str(folder)!r})\nfrom cleangpt.basics import found\n"
    done = subprocess.run([sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_keys_are_read_without_torch_and_the_rest_of_the_file_when_it_is_needed(tmp_path):
    write(tmp_path / "room", "mine", FILE)
    code = """
    settings = found.settings("room", "nobody.has.this")["mine"]
    print("torch" in sys.modules)
    module = found.module_of(settings)
    print(hasattr(module, "__path__"), "torch" in sys.modules)
    from room.mine import Model, Settings
    import room
    print(Settings is settings, "torch" in sys.modules, room.mine.Model is Model is module.Model)
    Model(settings(name="mine"))
    print(hasattr(module, "nothing"))
    """
    assert ask(tmp_path, code).split() == ["False", "False", "False", "True", "True", "True", "False"]


def test_a_file_whose_keys_stand_behind_torch_is_found_too(tmp_path):
    head, rest = FILE.split("class Settings", 1)
    write(tmp_path / "room", "mine", "from torch import nn\n" + head + "class Settings" + rest)
    assert ask(tmp_path, 'print(*found.settings("room", "nobody.has.this"), "torch" in sys.modules)') == "mine True"


def test_a_mistake_in_the_beginning_leaves_no_half_of_a_module(tmp_path):
    write(tmp_path / "room", "mine", FILE.replace("class Settings", "1 / 0\n\n\nclass Settings"))
    code = """
    for _ in range(2):
        try:
            found.settings("room", "nobody.has.this")
        except ZeroDivisionError:
            print("room.mine" in sys.modules)
    """
    assert ask(tmp_path, code).split() == ["False", "False"]


def test_two_files_can_not_answer_to_one_name(tmp_path, monkeypatch):
    for name in ("one", "two"):
        write(tmp_path / "room_of_two", name, FILE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"room_of_two\.two and room_of_two\.one both answer to mine"):
        found.settings("room_of_two", "nobody.has.this")


def test_a_file_that_has_no_keys_is_not_run(tmp_path):
    write(tmp_path / "room", "mine", FILE)
    write(tmp_path / "room", "parts", "import torch\nraise AssertionError")
    assert ask(tmp_path, 'print(*found.settings("room", "nobody.has.this"), "torch" in sys.modules)') == "mine False"


def test_a_configuration_is_checked_without_torch(tmp_path):
    code = """
    from cleangpt.config import experiment
    print(*experiment.MODEL_SETTINGS, *experiment.OPTIMIZER_SETTINGS, "torch" in sys.modules)
    """
    assert ask(tmp_path, code) == "gpt llama lstm adamw muon False"
