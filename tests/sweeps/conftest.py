"""What tests of sweeps share."""

import sys

import pytest

from cleangpt.sweeps import loop


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1,2"])
