"""Judge whether a run learned what it was asked to, and if not, say what it reached, why perhaps, and what to try."""

from typing import Any, NamedTuple

from cleangpt.config.experiment import Config

LEARNED = 0.99  # of the answers
KNOWS_LITTLE = 0.95  # of the loss of knowing only how often each token comes
FLAT = 0.02  # of a loss: what moves less does not move
BUCKETS = 20  # means of the training loss, where there are few evaluations


class Verdict(NamedTuple):
    """A judgement on a run."""

    name: str  # learned, plateau, by heart or unfinished, as summary.json has it
    sentences: list[str]  # for a person; none where it learned


class End(NamedTuple):
    """The end of a run."""

    accuracy: float | None  # the share of right answers, where there are answers
    guessing: float  # where there are no answers, the loss of knowing only how often each token comes
    solved: bool | None  # whether it reached its goal; None: it had none
    early: bool = False  # whether it ended since it got no better


def of(config: Config, rows: list[dict[str, Any]], end: End) -> Verdict:
    """Judge a run by its end and the rows of metrics.jsonl."""
    seen = [row["val/loss"] for row in rows if row.get("val/loss") is not None]
    made = [row["train/loss"] for row in rows if row.get("train/loss") is not None]
    if end.accuracy is not None:
        learned = end.accuracy >= LEARNED and end.solved is not False
        reached = f"{end.accuracy:.2%} of the answers are right"
    else:
        learned = not seen or min(seen) <= KNOWS_LITTLE * end.guessing
        reached = f"val/loss is {min(seen, default=0):.4f}, and knowing only how often each token comes gives "
        reached += f"{end.guessing:.4f}"
    if end.solved or learned:
        return Verdict("learned", [])
    partly = " completely" if end.accuracy is not None and end.accuracy >= 0.5 else ""
    losses = _losses(rows)
    since = flat_since(losses)
    got_no_better = end.early or since is not None or (len(seen) > 1 and seen[-1] > (1 + FLAT) * min(seen))
    last = sum(made[-5:]) / len(made[-5:]) if made else 0.0
    if got_no_better and seen and made and last < 0.5 * min(seen[-1], made[0]):
        name = "by heart"
        both = f"{last:.4f} in training and {seen[-1]:.4f} in validation"
        why = f"The loss is {both}: likely it knows its samples by heart."
        advice = "Try more data, a smaller model, or more optimizer.weight_decay."
    elif got_no_better:
        name = "plateau"
        flat = f"has been flat since step {since:,}" if since is not None else "got no better at the end"
        level = f" (about {losses[-1][1]:.4f})" if losses else ""
        why = f"The loss {flat}{level}: likely a plateau, or chance."
        advice = f"Try {', '.join(_levers(config))} or another seed."
    else:
        name = "unfinished"
        still = "The loss was still falling" if len(losses) >= 4 else "Its losses are too few to tell why"
        why = f"{still} when the run ended."
        advice = f"Try train.steps={2 * config.train.steps}."
    return Verdict(name, [f"It did not learn this{partly}: {reached}.", why, advice])


def _levers(config: Config) -> list[str]:
    """List what helps on a plateau, as far as it is not set already."""
    found = {
        "optimizer=muon": config.optimizer.name != "muon",
        "model.qk_norm=true": getattr(config.model, "qk_norm", None) is False,
        f"train.batch_size={2 * config.train.batch_size}": True,
        f"optimizer.lr={config.optimizer.lr / 3:.1g}": True,
        f"train.steps={2 * config.train.steps}": True,
    }
    return [word for word, is_open in found.items() if is_open]


def _losses(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """List (step, loss) of the evaluations, or where they are few, mean training losses of parts of the run."""
    seen, made = (
        [(row["step"], row[key]) for row in rows if row.get(key) is not None] for key in ("val/loss", "train/loss")
    )
    if len(seen) >= 5 or not made:
        return seen
    size = -(-len(made) // BUCKETS)
    parts = [made[start : start + size] for start in range(0, len(made), size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def flat_since(losses: list[tuple[int, float]]) -> int | None:
    """Find the step since which a loss has stayed what it is at the end, if that is a quarter of the run or longer."""
    if len(losses) < 4:
        return None
    end, level = losses[-1]
    since = end
    for step, loss in reversed(losses):
        if abs(loss - level) > FLAT * level:
            break
        since = step
    return since if end - since >= end / 4 else None
