"""Random tokens in the place of a text that was not prepared, of the same vocabulary: speed needs no real ones."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cleangpt.basics import files
from cleangpt.config.programs import BenchConfig
from cleangpt.corpus import store
from cleangpt.tasks.text import WINDOW, Settings
from cleangpt.tokens.tokenizers import Characters, load, smallest_type

CHARACTERS = {"characters": 65, "bytes": 257, "gpt2": 50257}  # as many as Shakespeare uses
FIRST = 0x10000  # from here on every number up to a million is a character


@contextlib.contextmanager
def data(config: BenchConfig) -> Iterator[tuple[BenchConfig, bool]]:
    """Put a folder of random tokens into a configuration whose data set has to be prepared and was not."""
    text = config.dataset
    if not isinstance(text, Settings) or any((Path(text.dir) / name).exists() for name in (store.ABOUT, "train.bin")):
        yield config, False
        return
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        length = text.window or config.model.block_size or WINDOW
        write(Path(folder), text, 4 * length * config.train.batch_size, config.seed)
        yield config.model_copy(update={"dataset": text.model_copy(update={"dir": folder})}), True


def write(folder: Path, settings: Settings, least: int, seed: int) -> None:
    """Write a folder as data/prepare.py leaves one, with at least so many tokens to train on."""
    size = vocabulary(settings)
    symbols = [chr(FIRST + number) for number in range(size)]
    files.write_json(folder / store.TOKENIZER, Characters(symbols, end=symbols[-1]).to_json())
    checksum = files.sha256(folder / store.TOKENIZER)
    generator, dtype = np.random.default_rng(seed), smallest_type(size)
    headers = {}
    for split, count in {"train": max(1 << 20, least), "val": 1 << 17}.items():
        writer = store.TokenWriter(folder / f"{split}.tokens", dtype)
        writer.add(generator.integers(size, size=count, dtype=dtype).tobytes(), [count], 4 * count)
        headers[split] = writer.close(checksum, size)
    files.write_json(folder / store.ABOUT, {"preparation": settings.preparation(), "splits": headers})


def vocabulary(settings: Settings) -> int:
    """Count the tokens of this data set's tokenizer."""
    name = settings.tokenizer
    if name.endswith(".json"):
        return load(Path(name)).vocab_size
    return settings.bpe_vocab_size if name == "bpe" else CHARACTERS[name.partition(":")[0]]
