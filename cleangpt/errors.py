"""What a user got wrong, told apart from what a program got wrong."""


class UserError(Exception):
    """One sentence for a person: what is wrong, and what to do. Ends a program with status 2."""


class ConfigError(UserError):
    """Every mistake of a configuration, a sentence each."""

    def __init__(self, mistakes: list[str]):
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
