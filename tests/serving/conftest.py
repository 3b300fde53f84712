"""Two models behind addresses: one of text, one of sums."""

import pytest
from helpers.saved_models import saved
from started.served import Served


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    served = Served(saved(tmp_path_factory.mktemp("served") / "letters"), "waiting=1")
    yield served
    assert served.close() == 0


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    served = Served(saved(tmp_path_factory.mktemp("served") / "sums", tokenizer=None, **{"model.block_size": None}))
    yield served
    assert served.close() == 0
