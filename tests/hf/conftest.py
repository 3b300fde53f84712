"""A tokenizer for the models of these tests."""

import pytest
from helpers.architectures_of_others import TEXT, VOCABULARY

from cleangpt.tokens import tokenizers


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.train_bpe([TEXT], VOCABULARY)
