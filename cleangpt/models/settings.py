"""The keys of conf/model/: their types, bounds and meaning."""

from typing import Literal

from pydantic import Field, field_validator

from cleangpt.basics.schema import Section


class ModelConfig(Section):
    """What both architectures have."""

    n_layer: int = Field(ge=1, le=1_000, description="transformer blocks")
    n_embd: int = Field(ge=1, description="width of the model")
    n_head: int = Field(ge=1, description="attention heads")
    block_size: int | None = Field(ge=1, description="longest context; null: what the task needs")
    vocab_size: int | None = Field(ge=2, description="rows of the embedding; null: the tokenizer's size")
    dropout: float = Field(ge=0, lt=1, description="probability of dropout, in attention and residuals")
    tied: bool = Field(description="one matrix for the embedding and the head")
    qk_norm: bool = Field(description="RMSNorm on queries and keys, head by head")
    zero_init: bool = Field(description="what is added to the residual begins at zero")
    logit_softcap: float | None = Field(gt=0, description="logits stay within this, by tanh; null: no bound")
    value_embeddings: bool = Field(description="each layer adds an embedding of the token to attention's values")
    bigram_embedding: int | None = Field(
        ge=1, description="rows of an embedding of (token before, token), shared by hashing if need be; null: none"
    )
    attention: Literal["auto", "sdpa", "plain"] = Field(
        description="torch's fused kernel, two matmuls and a softmax, or whichever suits the device"
    )


class GPTConfig(ModelConfig):
    """GPT-2: learned positions, LayerNorm, GELU."""

    name: Literal["gpt"] = Field(description="the architecture")
    activation: Literal["gelu_tanh", "gelu", "relu2"] = Field(
        description="of the MLP: GELU as GPT-2 approximates it, GELU exactly, or ReLU squared"
    )
    bias: bool = Field(description="biases in linear layers and norms")

    @field_validator("n_head")
    @classmethod
    def _heads_divide_width(cls, n_head: int, info) -> int:
        n_embd = info.data.get("n_embd", n_head)
        if n_embd % n_head:
            raise ValueError(f"must divide model.n_embd={n_embd}, and {n_head} does not")
        return n_head


class RopeScaling(Section):
    """Llama 3's scaling of the rotary angles: slow ones become slower still, for contexts beyond the original one."""

    factor: float = Field(ge=1, description="how much slower the slowest rotary angles become")
    low_freq_factor: float = Field(gt=0, description="turns within the original context, below which all of it applies")
    high_freq_factor: float = Field(gt=0, description="turns within the original context, above which none applies")
    original_context: int = Field(ge=1, description="the context before scaling")

    @field_validator("high_freq_factor")
    @classmethod
    def _above_the_low_one(cls, high: float, info) -> float:
        if high <= info.data.get("low_freq_factor", 0):
            raise ValueError(f"must be above low_freq_factor={info.data['low_freq_factor']:g}, and {high:g} is not")
        return high


class LlamaConfig(ModelConfig):
    """Llama: rotary positions, RMSNorm, SwiGLU, grouped-query attention."""

    name: Literal["llama"] = Field(description="the architecture")
    head_dim: int | None = Field(ge=2, multiple_of=2, description="width of a head; null: n_embd / n_head")
    n_kv_head: int | None = Field(ge=1, description="heads of keys and values; null: n_head")
    activation: Literal["swiglu", "relu2"] = Field(description="of the MLP: a SiLU that gates, or ReLU squared")
    ffn_dim: int | None = Field(
        ge=1, description="hidden width of the MLP; null: 8/3 n_embd, rounded up to 32, and 4 n_embd with relu2"
    )
    rope_base: float = Field(gt=1, description="base of the rotary angles")
    rope_scaling: RopeScaling | None
    norm_eps: float = Field(gt=0, description="epsilon of RMSNorm")

    @field_validator("head_dim")
    @classmethod
    def _head_width(cls, head_dim: int | None, info) -> int | None:
        n_embd, n_head = info.data.get("n_embd"), info.data.get("n_head")
        if head_dim is None and n_embd and n_head and n_embd % (2 * n_head):
            raise ValueError(
                f"must be given, since model.n_embd={n_embd} over model.n_head={n_head} is not an even number: "
                "change one of the three"
            )
        return head_dim

    @field_validator("n_kv_head")
    @classmethod
    def _kv_heads_divide_heads(cls, n_kv_head: int | None, info) -> int | None:
        n_head = info.data.get("n_head")
        if n_kv_head and n_head and n_head % n_kv_head:
            raise ValueError(f"must divide model.n_head={n_head}, and {n_kv_head} does not")
        return n_kv_head
