"""Whether a run learned what it was asked to, and if not, in words: what it reached, why perhaps, and what to try."""

import math
from typing import Any, NamedTuple

from cleangpt.config import Config

LEARNED = 0.99  # of the answers
GUESSED = 0.02  # of the answers: fewer are hardly more than luck
TOLD_APART = 0.9  # of the loss of guessing all tokens alike: above it, a model of text knows next to nothing
FLAT = 0.02  # of a loss: what moves less does not move
BUCKETS = 20  # means of the training loss, where there are few evaluations


class Verdict(NamedTuple):
    name: str  # learned, chance, plateau, by heart or unfinished, as summary.json has it
    sentences: list[str]  # for a person; none where it learned


def of(config: Config, rows: list[dict[str, Any]], accuracy: float | None) -> Verdict:
    """`rows` are those of metrics.jsonl; `accuracy` is the share of right answers, where there are answers."""
    last = {key: value for row in rows for key, value in row.items() if value is not None}
    guessing = math.log(config.model.vocab_size)
    if accuracy is not None:
        learned, reached = accuracy >= LEARNED, f"{accuracy:.2%} of the answers are right"
        guesses = accuracy < GUESSED
    else:
        loss = last.get("val/loss", math.inf)
        learned = loss <= TOLD_APART * guessing
        reached = f"val/loss is {loss:.4f}, and guessing all tokens alike gives {guessing:.4f}"
        guesses = True
    if learned:
        return Verdict("learned", [])
    losses = _losses(rows)
    since = flat_since(losses)
    if since is not None:
        name = "chance" if guesses else "plateau"
        what = "what guessing gets" if guesses else "a plateau"
        why = f"The loss has been flat since step {since:,} (about {losses[-1][1]:.4f}): this is likely {what}."
        helps = {
            "optimizer=muon": config.optimizer.name != "muon",
            "model.qk_norm=true": not config.model.qk_norm,
            f"train.batch_size={2 * config.train.batch_size}": True,
            f"optimizer.lr={config.optimizer.lr / 3:.1g}": True,
            f"train.steps={2 * config.train.steps}": True,
        }
        advice = f"Try {', '.join(word for word, is_open in helps.items() if is_open)} or another seed."
    elif last.get("train/loss", math.inf) < 0.5 * last.get("val/loss", 0.0):
        name = "by heart"
        why = (
            f"The loss is {last['train/loss']:.4f} in training and {last['val/loss']:.4f} in validation: likely it "
            "learned its samples by heart."
        )
        advice = "Try more data, a smaller model, or more optimizer.weight_decay."
    else:
        name, why = "unfinished", "The loss was still moving when the run ended."
        advice = f"Train longer: train.steps={2 * config.train.steps}."
    return Verdict(name, [f"It did not learn this{'' if guesses else ' completely'}: {reached}.", why, advice])


def _losses(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, loss) of the evaluations, or where they are few, the mean training loss of parts of the run."""
    seen, made = (
        [(row["step"], row[key]) for row in rows if row.get(key) is not None] for key in ("val/loss", "train/loss")
    )
    if len(seen) >= 5 or not made:
        return seen
    size = -(-len(made) // BUCKETS)
    parts = [made[start : start + size] for start in range(0, len(made), size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def flat_since(losses: list[tuple[int, float]]) -> int | None:
    """The step since which a loss has stayed what it is at the end, if that is a quarter of the run and longer."""
    if len(losses) < 4:
        return None
    end, level = losses[-1]
    since = end
    for step, loss in reversed(losses):
        if abs(loss - level) > FLAT * level:
            break
        since = step
    return since if end - since >= end / 4 else None
