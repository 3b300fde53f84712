"""The keys that models share: those that every model has, and those of attention."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cleangpt.basics.schema import Derived, Open, Section


class ModelSettings(Section):
    """The keys of every model. A model's own file says its `name`, and what else it has."""

    not_in_weights: ClassVar[tuple[str, ...]] = ("block_size",)  # keys that trained weights leave open
    hugging_face: ClassVar[str | None] = None  # whose class holds such a model in their format; None: nobody's

    if TYPE_CHECKING:
        name: str  # in a model's own file a Literal, by which it is chosen
    n_layer: int = Field(ge=1, le=1_000, description="layers")
    n_embd: int = Field(ge=1, description="width of the model")
    block_size: Annotated[Open[int], Derived(("task.sequence_length",))] = Field(
        ge=1, description="longest context; null: what the task needs"
    )
    vocab_size: Annotated[Open[int], Derived(("task.tokenizer.vocab_size",))] = Field(
        ge=2, description="rows of the embedding; null: the tokenizer's size"
    )

    @property
    def context(self) -> int | None:
        """Count the tokens that it reads at once, at most; None: any number."""
        return self.block_size

    @property
    def longest_context(self) -> int | None:
        """Bound the `block_size` that weights trained with this one can be given; None: any."""
        return None

    @property
    def is_random(self) -> bool:
        """True where training draws random numbers, as dropout does."""
        return getattr(self, "dropout", 0.0) > 0


class AttentionSettings(ModelSettings):
    """The keys of a transformer."""

    not_in_weights: ClassVar[tuple[str, ...]] = ("dropout", "attention", "block_size")

    n_head: int = Field(ge=1, description="attention heads")
    dropout: float = Field(ge=0, lt=1, description="probability of dropout, in attention and residuals")
    tied: bool = Field(description="one matrix for the embedding and the head")
    qk_norm: bool = Field(description="RMSNorm on queries and keys, head by head")
    zero_init: bool = Field(description="what is added to the residual begins at zero")
    logit_softcap: float | None = Field(gt=0, description="logits stay within this, by tanh; null: no bound")
    bigram_embedding: int | None = Field(
        ge=1, description="rows of an embedding of (token before, token), shared by hashing if need be; null: none"
    )
    positions: Literal["learned", "rotary", "none", "alibi", "fire"] = Field(description="how it tells places apart")
    attention: Literal["auto", "sdpa", "plain"] = Field(
        description="torch's fused kernel, two matmuls and a softmax, or whichever suits the device"
    )
