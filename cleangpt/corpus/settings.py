"""The keys of data that is prepared: what is read, how it is cut and tokenized, and where the result lies."""

from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.schema import Section


class PreparationSettings(Section):
    """The keys of data/prepare.py. A task that reads such data says its `name`, and how it reads it."""

    from_data: ClassVar = (
        *("source", "val_source", "test_source", "field", "separator", "subset"),
        *("tokenizer", "bpe_vocab_size", "split", "split_seed", "val_fraction", "test_fraction"),
    )

    name: str  # in a task's own file a Literal, by which it is chosen
    source: str | None = Field(
        min_length=1,
        description="a file, a folder, a glob, an address, or hf:<data set>[@revision][:split] of Hugging Face",
    )
    val_source: str | None = Field(description="the same for validation; null: a part of source")
    test_source: str | None = Field(description="the same for the test; null: a part of source")
    field: str = Field(min_length=1, description="which field of a record is the text")
    separator: str | None = Field(min_length=1, description="what stands between documents of a text file")
    subset: str | None = Field(description="configuration of a Hugging Face data set")
    streaming: bool | Literal["auto"] = Field(description="read it without storing it; auto: above 5 GB")
    dir: str = Field(min_length=1, description="where prepared data lies")
    tokenizer: str = Field(
        min_length=1, description="characters, bytes, bpe, gpt2, gpt2:<file>, or the path of a tokenizer.json"
    )
    bpe_vocab_size: int = Field(ge=257, lt=1 << 24, description="tokens that tokenizer=bpe learns")
    split: Literal["auto", "documents", "position"] = Field(
        description="hold out documents, or the last part of each file; auto: documents where there are many"
    )
    split_seed: int = Field(ge=0, lt=2**63, description="of the split, apart from the seed of the run")
    val_fraction: float = Field(ge=0, lt=1, description="of source, held out for validation, without val_source")
    test_fraction: float = Field(ge=0, lt=1, description="of source, held out for the test, without test_source")

    @field_validator("test_fraction")
    @classmethod
    def _leave_some_to_train(cls, test_fraction: float, info: ValidationInfo) -> float:
        if info.data.get("val_fraction", 0) + test_fraction >= 1:
            raise ValueError("and dataset.val_fraction leave nothing to train on: lower one")
        return test_fraction

    @field_validator("val_fraction")
    @classmethod
    def _leave_some_to_validate(cls, val_fraction: float, info: ValidationInfo) -> float:
        if not val_fraction and not info.data.get("val_source"):
            raise ValueError("must be above 0, or name a dataset.val_source")
        return val_fraction

    def preparation(self) -> dict[str, Any]:
        """Collect the values that decide what prepared data holds."""
        return {key: getattr(self, key) for key in self.from_data}
