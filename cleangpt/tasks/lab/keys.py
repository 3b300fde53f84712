"""The keys of arithmetic: what is asked, how it is written, which problems, and what is held out."""

import contextlib
from string import ascii_letters
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from cleangpt.tasks import held_out
from cleangpt.tasks.contract import RUN
from cleangpt.tasks.lab import choices
from cleangpt.tasks.lab.format import DIGITS, Format, Style
from cleangpt.tasks.lab.operation import Operation

if TYPE_CHECKING:
    from builtins import str as FormatName
    from builtins import str as OperationName
else:
    OperationName, FormatName = (Literal[tuple(choices.modules(kind))] for kind in choices.ROOMS)


class Keys(held_out.HeldOut):
    name: str = Field(description="what is to be learned")
    operation: OperationName = Field(description="what is asked")
    modulus: int | None = Field(ge=2, le=1_000_000, description="answers are modulo this; null: they are not")
    base: int = Field(
        ge=2, le=1_000_000, description="base of the digits; as large as the modulus: a number is a token"
    )
    operands: int = Field(ge=1, le=20, description="numbers or strings in a problem")
    digits: Annotated[int, Field(ge=1, le=1000)] | list[int] = Field(
        description="digits of an operand, at most; or [1,10], at least and at most"
    )
    digits_b: int | None = Field(ge=1, le=1000, description="digits of the second operand, at most; null: as many")
    lengths: Literal["value", "length", "pair"] | list[float] = Field(
        description="numbers are drawn by value, by one length for all, by a length for each, or by weights of lengths"
    )
    mixture: list[dict[str, Any]] | None = Field(
        description="problems to train on, drawn in parts, as {weight: 1, digits: 2, where: {carries: 0}}; null: alike"
    )
    exclude_operands: list[int] | None = Field(description="numbers that no problem to train on has; null: none")
    exclude_digits: list[list[int]] | None = Field(
        description="digits that no number to train on has, [power, digit] each; null: none"
    )
    source: str | None = Field(min_length=1, description="a file with a problem in each line; null: they are made")
    format: FormatName = Field(description="how a problem is written")
    remove_after: int | None = Field(
        ge=0, lt=RUN, description="problems after which training leaves out the first token of format=icot; null: none"
    )
    remove_every: int | None = Field(ge=1, lt=RUN, description="problems from one token that is left out to the next")
    padded: bool | Literal["operands", "answer"] = Field(description="numbers are filled with zeros to one length")
    padded_to: int | None = Field(
        ge=1, le=1000, description="digits that zeros fill up to; null: dataset.digits, or the longest of a problem"
    )
    reversed: bool | Literal["operands", "all"] = Field(
        description="the answer is written lowest digit first; or the operands are, or both"
    )
    symbols: bool = Field(description="the operator and = are written")
    operator: str | None = Field(max_length=1, description="the operator; null: the usual one")
    equals: str = Field(max_length=1, description="what stands before an answer; empty: nothing")
    start: str = Field(max_length=1, description="what stands before a problem; empty: nothing")
    space: str = Field(max_length=1, description="what stands around operator and =; empty: nothing")
    end_token: bool = Field(description="an end token follows the answer")
    vocabulary: Literal["usual", "used"] = Field(description="tokens: the usual ones, or only those that are used")
    layout: Literal["rows", "packed"] = Field(description="training samples: a problem each, or windows of a text")
    window: int | None = Field(ge=2, description="tokens of a window; null: four times the longest problem")
    confine: bool = Field(description="in a window, attention stays within a problem")
    positions: Literal["natural", "random_start", "randomized", "coupled", "abacus"] = Field(
        description="which position the model is told of a token"
    )
    position_range: int | None = Field(
        ge=1, description="positions that there are, for offsets in training; null: no more than are needed"
    )
    sets: dict[str, Any] | None = Field(
        description="further sets to score, as {longer: {digits: [11, 20], each: 100}}; null: none"
    )
    loss: Literal["answer", "conclusion", "all"] = Field(
        description="tokens that are trained on; the conclusion is what stands behind a scratchpad"
    )
    average: Literal["tokens", "problems"] = Field(description="the loss is a mean over all tokens, or over problems")
    split: Literal["unordered", "ordered"] = Field(description="hold out pairs, or ordered pairs, which leaks")
    split_seed: held_out.Seed
    val_fraction: held_out.ValFraction
    test_fraction: held_out.TestFraction
    test_size: int = Field(ge=1, description="problems to test on, where they are drawn")
    train_size: held_out.TrainSize
    val_size: held_out.ValSize

    @field_validator("modulus")
    @classmethod
    def _modular(cls, modulus: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get("operation")
        if name and (why := choices.load("operation", name).why_not(modulus)):
            raise ValueError(f"does not fit: dataset.operation={name} {why}")
        return modulus

    @field_validator("operands")
    @classmethod
    def _as_many_as_it_takes(cls, operands: int, info: ValidationInfo) -> int:
        if name := info.data.get("operation"):
            chosen: type[Operation] = choices.load("operation", name)
            if operands < chosen.least or operands > (chosen.most or operands):
                most = "" if chosen.most == chosen.least else f" to {chosen.most}" if chosen.most else " or more"
                raise ValueError(f"must be {chosen.least}{most} with dataset.operation={name}, not {operands}")
        return operands

    @field_validator("padded_to")
    @classmethod
    def _as_wide_as_numbers(cls, padded_to: int | None, info: ValidationInfo) -> int | None:
        if padded_to is not None and info.data.get("padded") is False:
            raise ValueError("has no meaning with dataset.padded=false: leave it null")
        if padded_to is not None and "digits" in info.data and padded_to < span(info.data["digits"])[1]:
            raise ValueError("must not be less than dataset.digits")
        return padded_to

    @field_validator("symbols")
    @classmethod
    def _readable(cls, symbols: bool, info: ValidationInfo) -> bool:
        several = info.data.get("operands", 2) > 1
        if not symbols and several and info.data.get("padded") in (False, "answer"):
            raise ValueError("must be true with dataset.padded=false: without either, 1 12 and 11 2 read the same")
        return symbols

    @field_validator("space")
    @classmethod
    def _told_apart(cls, space: str, info: ValidationInfo) -> str:
        if not {"base", "operation", "symbols", "padded", "operands"} <= info.data.keys():
            return space  # a key that it takes has a mistake of its own
        operation = choices.load("operation", info.data["operation"])
        operator = info.data.get("operator")
        operator = operation.symbol if operator is None else operator
        used = {
            "operator": operator,
            "equals": info.data.get("equals"),
            "start": info.data.get("start"),
            "space": space,
        }
        if not info.data["symbols"]:
            used = {"start": used["start"]}  # all that is written then
        digits = DIGITS[: info.data["base"]]
        with contextlib.suppress(AttributeError, TypeError):  # a key that it takes has a mistake of its own
            digits = "" if cls.model_construct(**info.data, sets=None).one_length else digits  # columns tell them apart
        taken = dict.fromkeys([*digits, "\n"], "a digit or the end")
        if info.data.get("format") == "hints":
            taken |= dict.fromkeys(ascii_letters, "a hint")
        for name, symbol in used.items():
            if symbol and symbol == " " and name != "space":
                raise ValueError(f"does not fit: dataset.{name} is a space, which fills rows up")
            if symbol and symbol in taken:
                raise ValueError(f"does not fit: dataset.{name}={symbol!r} is {taken[symbol]} too")
            taken |= {symbol: f"dataset.{name}"} if symbol and symbol not in DIGITS else {}
        needed = {"operator": operator if info.data["operands"] > 1 else "-", "equals": info.data.get("equals")}
        if info.data["symbols"] and info.data["padded"] in (False, "answer") and not all(needed.values()):
            name = next(name for name, symbol in needed.items() if not symbol)
            raise ValueError(f"does not fit: dataset.{name} is empty, and only padded operands tell where they end")
        return space

    @field_validator("end_token")
    @classmethod
    def _terminated(cls, end_token: bool, info: ValidationInfo) -> bool:
        if not end_token and info.data.get("padded") in (False, "operands"):
            raise ValueError("must be true with dataset.padded=false: nothing else says where an answer ends")
        return end_token

    @field_validator("digits")
    @classmethod
    def _a_number_or_a_range(cls, digits: int | list[int], info: ValidationInfo) -> int | list[int]:
        if isinstance(digits, list) and not (len(digits) == 2 and 1 <= digits[0] <= digits[1] <= 1000):
            raise ValueError(f"must be a number or [least, most], not {digits}")
        base, modulus = info.data.get("base", 10), info.data.get("modulus")
        if base > len(DIGITS) and (digits != 1 or modulus is None or modulus > base):
            raise ValueError(
                f"must be 1 with dataset.base={base}, where a number is one token, and dataset.modulus at most {base}"
            )
        return digits

    @field_validator("lengths")
    @classmethod
    def _a_weight_for_each(cls, lengths: str | list[float], info: ValidationInfo) -> str | list[float]:
        if isinstance(lengths, list) and "digits" in info.data:
            low, high = span(info.data["digits"])
            if len(lengths) != high - low + 1 or min(lengths) < 0 or not sum(lengths):
                raise ValueError(
                    f"must be {high - low + 1} weights, one for each length from {low} to {high}, not {lengths}"
                )
        return lengths

    @field_validator("split")
    @classmethod
    def _fits_the_operation(cls, split: str, info: ValidationInfo) -> str:
        if info.data.get("operation") == "divide" and split == "unordered":
            raise ValueError("must be ordered with dataset.operation=divide, whose operands can't change places")
        return split

    @field_validator("train_size")
    @classmethod
    def _as_many_as_training_takes(cls, train_size: int | None, info: ValidationInfo) -> int | None:
        with contextlib.suppress(AttributeError, TypeError):  # a key that it takes has a mistake of its own
            if train_size is not None and cls.model_construct(**info.data).changes:
                raise ValueError("has no meaning where samples change as training goes on: leave it null")
        return train_size

    @field_validator("remove_every")
    @classmethod
    def _something_to_remove(cls, remove_every: int | None, info: ValidationInfo) -> int | None:
        if "remove_after" in info.data and (remove_every is None) != (info.data["remove_after"] is None):
            raise ValueError("and dataset.remove_after belong together: set both or neither")
        if (name := info.data.get("format")) and remove_every is not None:
            if not choices.load("format", name).removable:
                raise ValueError(f"and dataset.remove_after have no meaning with dataset.format={name}: leave them out")
            if info.data.get("source") is not None:
                raise ValueError("and dataset.remove_after need problems that are drawn, not dataset.source")
        return remove_every

    @field_validator("loss")
    @classmethod
    def _has_a_conclusion(cls, loss: str, info: ValidationInfo) -> str:
        if loss == "conclusion" and (name := info.data.get("format")) and choices.load("format", name).marker is None:
            raise ValueError(f"is conclusion, and dataset.format={name} has nothing before it: set answer")
        if loss == "conclusion" and not (info.data.get("equals") and info.data.get("symbols")):
            raise ValueError("is conclusion, which needs dataset.equals to tell a question from what stands behind it")
        return loss

    @field_validator("end_token")
    @classmethod
    def _ends(cls, end_token: bool, info: ValidationInfo) -> bool:
        if not end_token and (name := info.data.get("format")) and choices.load("format", name).marker is not None:
            raise ValueError(f"must be true with dataset.format={name}: nothing else tells where its answer ends")
        return end_token

    @field_validator("layout")
    @classmethod
    def _in_rows(cls, layout: str, info: ValidationInfo) -> str:
        with contextlib.suppress(AttributeError, TypeError):  # a key that it takes has a mistake of its own
            if layout == "packed" and cls.model_construct(**info.data).changes:
                raise ValueError("must be rows where samples change as training goes on, which counts problems")
        return layout

    @field_validator("position_range")
    @classmethod
    def _enough_positions(cls, position_range: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("layout") == "packed" and info.data.get("positions", "natural") != "natural":
            raise ValueError("has no meaning with dataset.layout=packed, whose positions are natural")
        if position_range is not None and info.data.get("positions") == "natural":
            raise ValueError("has no meaning with dataset.positions=natural: leave it null")
        return position_range

    def what(self) -> Operation:
        """Make the operation."""
        return choices.load("operation", self.operation)(self.base, self.modulus)

    def how(self) -> Format:
        """Make the format."""
        operation = self.what()
        style = Style(
            operator=(operation.symbol if self.operator is None else self.operator) if self.symbols else "",
            equals=self.equals if self.symbols else "",
            start=self.start,
            space=self.space,
            end="\n" if self.end_token else "",
            pad_operands=self.padded in (True, "operands"),
            pad_answer=self.padded in (True, "answer"),
            pad_to=self.padded_to or (self.most if isinstance(self.digits, int) and self.lengths == "value" else 0),
            reversed_operands=self.reversed in ("operands", "all"),
            reversed_answer=self.reversed in (True, "all"),
            one_length=self.one_length,
            removal=None if self.remove_after is None else (self.remove_after, self.remove_every or 1),
        )
        return choices.load("format", self.format)(operation, style, usual=self.vocabulary == "usual")

    @property
    def one_length(self) -> bool:
        """Tell whether all rows are equally long, so that the column of a token says what it is."""
        alike = isinstance(self.digits, int) and self.lengths == "value" and self.padded is True
        plain = self.format == "plain" and not (self.mixture or self.sets or self.source)
        return alike and plain and not self.what().strings

    @property
    def changes(self) -> bool:
        """Tell whether samples change as training goes on."""
        return self.remove_after is not None or any("since" in part or "until" in part for part in self.mixture or ())

    @property
    def most(self) -> int:
        """Count the digits of an operand to train on, at most."""
        return span(self.digits)[1]

    @property
    def numbers(self) -> int:
        """Count the numbers that an operand may be."""
        return min(self.base**self.most, self.modulus or self.base**self.most)


def span(digits: int | list[int]) -> tuple[int, int]:
    """Read `3` as 1 to 3 digits, and `[2, 5]` as it stands."""
    low, high = (1, digits) if isinstance(digits, int) else digits
    return low, high
