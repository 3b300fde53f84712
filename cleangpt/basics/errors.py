"""Mistakes of a user, told apart from those of a program."""

from cleangpt.basics.shown import visible


class UserError(Exception):
    """One sentence for a person: what is wrong, and what to do. Ends a program with status 2."""

    def __str__(self) -> str:
        return visible(super().__str__())  # it may quote what somebody else wrote


class ConfigError(UserError):
    """Every mistake of a configuration, a sentence each."""

    def __init__(self, mistakes: list[str]):
        super().__init__("\n".join(mistakes))
        self.mistakes = [visible(mistake) for mistake in mistakes]
