"""Hold what a command line asks for, made once, where Hydra hands over: nobody takes its words apart again."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from cleangpt.basics.schema import Section
from cleangpt.config.command_line import split

C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class Asked(Generic[C]):
    config: C  # checked
    words: tuple[str, ...] = ()  # key=value and group=option, as typed
    own: tuple[str, ...] = ()  # the files that are not ours of which the configuration was composed

    @cached_property
    def given(self) -> dict[str, str]:
        """Map the keys and groups that were given, in order, to their words."""
        return {split(word)[0]: word for word in self.words}

    def below(self, section: str) -> dict[str, str]:
        """Map the keys of a section that were given, without its name, to their words."""
        return {key.partition(".")[2]: word for key, word in self.given.items() if key.startswith(f"{section}.")}
