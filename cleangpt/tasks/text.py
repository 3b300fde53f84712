"""Language modelling on prepared text: windows of tokens at seeded positions.

In each epoch the training tokens are cut into windows one after the other, from a place that the seed of the run
and the epoch choose, so that an epoch reads every token once and no two epochs cut them alike. Validation cuts from
the first token on and scores every token but that first one exactly once.

Places may be drawn one by one instead, with replacement, as nanoGPT does.
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import parse
from cleangpt.basics.seeds import Permutation, scramble
from cleangpt.basics.words import counted
from cleangpt.corpus.settings import PreparationSettings
from cleangpt.corpus.store import ABOUT, PREPARE, Prepared
from cleangpt.tasks import contract
from cleangpt.tasks.contract import Batch, Measure
from cleangpt.tokens.tokenizers import END

WINDOW = 256  # tokens, where neither the data set nor the model says how many
LARGE = 1 << 30  # bytes of a file that may not stay in memory


class Settings(PreparationSettings):
    name: Literal["text", "shakespeare_char", "shakespeare", "tinystories", "openwebtext"] = Field(
        description="what is to be learned; data of your own is text"
    )
    window: int | None = Field(ge=1, description="tokens in a sample; null: model.block_size, or 256")
    windows: Literal["cover", "random"] = Field(
        description="cover: an epoch reads every token once; random: places drawn one by one, as nanoGPT does"
    )
    confine: bool = Field(description="attention stays within a document")
    val_size: int | None = Field(ge=1, description="most windows in one evaluation; null: all of validation")
    resident: bool | Literal["auto"] = Field(description="keep the data on the GPU; auto: where it fits")

    @property
    def sequence_length(self) -> int | None:
        return self.window


class Task(contract.Task):
    settings: Settings

    def __init__(self, settings: Settings, context: int | None = None):
        self.data = Prepared(Path(settings.dir), settings.tokenizer)
        self.tokenizer = self.data.tokenizer
        if self.data.preparation is not None:  # what it was made from is what counts, whatever is asked for now
            settings = _as_prepared(settings, self.data.preparation)
        super().__init__(settings)
        self.sequence_length = settings.window or context or WINDOW
        self.reads_disk = len(self.data.splits["train"].ids) * self.data.splits["train"].ids.itemsize > LARGE
        self.ids: dict[str, Any] = {name: tokens.ids for name, tokens in self.data.splits.items()}
        if settings.confine and self.tokenizer.end is None:
            raise UserError(f"`dataset.confine` needs documents, and {settings.dir} holds one text: set it to false")
        if self.size("train") < 1:
            raise UserError(
                f"{settings.dir} has {counted(len(self.ids['train']), 'token')} to train on, less than two windows of "
                f"{self.sequence_length}: lower model.block_size or dataset.window"
            )
        if self.size("val") < 1:
            raise UserError(f"{settings.dir} has no two tokens to validate on: raise dataset.val_fraction")
        self.val_order = None
        if self.val_size < self.size("val"):
            self.val_order = Permutation(self.size("val"), self.key("val subset"))

    def fingerprint(self) -> dict[str, str]:
        return self.data.checksums()

    def size(self, split: str) -> int:
        """Count the windows of a split."""
        if split not in self.ids:
            return 0
        tokens = len(self.ids[split])
        if split == "train":  # cut from any place of the first window on, they still fit
            return tokens // self.sequence_length - 1
        return -(-(tokens - 1) // self.sequence_length)

    def place(self, device: Any) -> None:
        """Keep the tokens on a GPU, where they fit beside a model, and gather windows there."""
        import torch

        device = torch.device(device)
        if self.settings.resident is False or device.type != "cuda":
            return
        free = torch.cuda.mem_get_info(device)[0]
        held = sum(ids.nbytes for ids in self.ids.values() if isinstance(ids, np.ndarray))
        if self.settings.resident is True or held < free // 4:
            signed = {1: np.uint8, 2: np.int16, 4: np.int32}  # torch gathers few unsigned types
            self.ids = {
                name: torch.from_numpy(self._whole(name).view(signed[ids.itemsize])).to(device)
                for name, ids in self.ids.items()
            }
            self.reads_disk = False

    def _whole(self, split: str) -> np.ndarray:
        tokens = self.data.splits[split]
        return tokens.checked(np.array(tokens.ids))

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        length = self.sequence_length
        if split == "val" and self.val_order is not None:
            index = self.val_order(index)
        starts = index * length
        if split == "train" and epoch_keys is not None:
            if self.settings.windows == "cover":
                starts = starts + epoch_keys % length
            else:
                places = scramble(epoch_keys + index, 0) % np.uint64(len(self.ids[split]) - length)
                starts = places.astype(np.int64)
        ids = self.ids[split]
        overhangs = len(starts) > 0 and int(starts.max()) + length + 1 > len(ids)
        rows = _cut(ids, starts, length + 1, overhangs)  # (n, T + 1)
        if isinstance(rows, np.ndarray):
            self.data.splits[split].checked(rows)
        inputs, targets = rows[:, :-1], rows[:, 1:]
        # The last window of a split is a short one.
        real = starts[:, None] + np.arange(length) < len(ids) - 1 if overhangs else None
        documents = (inputs == self.tokenizer.end).cumsum(1) if self.settings.confine else None
        weights = None if real is None else real.astype(np.float32)
        return Batch(inputs, targets, weights, None, real, documents)

    def measures(self, loss: float, split: str = "val") -> dict[str, Measure]:
        """Express a loss per token in other measures: perplexity, and bits per byte, which compares tokenizers."""
        bits = loss / math.log(2)
        return {**super().measures(loss), "bits_per_byte": Measure(bits / self.bytes_per_token(split))}

    def facts(self, split: str) -> dict[str, Any]:
        return {"bytes_per_token": self.bytes_per_token(split)}

    def bytes_per_token(self, split: str) -> float:
        """Average the bytes of text behind a token of a split, all but the first, which nothing predicts."""
        tokens = self.data.splits[split]
        if tokens.text_bytes is None:
            text = self.tokenizer.decode(tokens.checked(tokens.ids).tolist())
            tokens.text_bytes = len(text.replace(END, "").encode())
        first = self.tokenizer.decode(tokens.checked(tokens.ids[:1]).tolist()).replace(END, "")
        return max(1, tokens.text_bytes - len(first.encode())) / (len(tokens.ids) - 1)

    def guessing(self) -> float:
        """Compute the entropy of the tokens of a long beginning of the training text, in nats."""
        tokens = self.data.splits["train"]
        return contract.entropy(np.bincount(tokens.checked(np.asarray(tokens.ids[: 1 << 20]))))


def _as_prepared(settings: Settings, preparation: dict[str, Any]) -> Settings:
    """Replace what is asked for now by what prepared data was made by."""
    known = {key: value for key, value in preparation.items() if key in settings.from_data}
    try:
        return parse({**settings.model_dump(), **known}, Settings)
    except ConfigError as error:
        path = Path(settings.dir) / ABOUT
        raise UserError(f"{path} does not say how the data was prepared ({error.mistakes[0]}){PREPARE}") from None


def _cut(ids: Any, starts: np.ndarray, length: int, overhangs: bool) -> Any:
    """Cut windows of tokens from these places on, (n, length) int64; the last token of all is repeated as padding."""
    if isinstance(ids, np.ndarray):
        if not overhangs:
            return np.lib.stride_tricks.sliding_window_view(ids, length)[starts].astype(np.int64)
        places = np.minimum(starts[:, None] + np.arange(length), len(ids) - 1)
        return ids[places].astype(np.int64)
    import torch

    columns = torch.from_numpy(starts).to(ids.device)[:, None] + torch.arange(length, device=ids.device)
    rows = ids[columns.clamp_max(len(ids) - 1)].long()
    return rows & 0xFFFF if ids.dtype == torch.int16 else rows
