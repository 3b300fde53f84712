"""What `train.stop_when` asks of a run: when it is met, and how it is said."""

from cleangpt.config.experiment import StopWhen


def is_met(goal: StopWhen, scores: dict[str, float]) -> bool:
    """Whether one evaluation shows it. What is not a number shows nothing."""
    value = scores[goal.metric]
    return value >= goal.at_least if goal.at_least is not None else value <= goal.at_most


def question(goal: StopWhen) -> str:
    """What tells one goal from another, however often it has to be shown."""
    return in_words(goal.model_copy(update={"times": 1}))


def in_words(goal: StopWhen) -> str:
    bound = f"at least {goal.at_least}" if goal.at_least is not None else f"at most {goal.at_most}"
    return f"{goal.metric} is {bound}" + (f" in {goal.times} evaluations in a row" if goal.times > 1 else "")
