"""Run a program without torch."""

import pytest
from started.programs import run_program


@pytest.fixture
def light(tmp_path):
    """Run a program where `import torch` fails, and show that it leaves nothing behind."""
    stub, folder = tmp_path / "stub", tmp_path / "here"
    stub.mkdir()
    folder.mkdir()
    (stub / "torch.py").write_text("raise ImportError('torch was imported')")

    def run(script, *words, real=False, **environment):
        before = sorted(folder.rglob("*"))
        environment["PYTHONPATH"] = str(stub)
        done = run_program(script, *words, cwd=folder, env=environment, real=real, light=not real)
        assert "torch was imported" not in done.stderr, done.stderr
        assert sorted(folder.rglob("*")) == before
        return done

    run.folder = folder
    return run
