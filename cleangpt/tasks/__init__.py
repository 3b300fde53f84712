"""Tasks: what can be learned.

A task is one file here and one YAML in conf/dataset/; docs/new_task.md shows how to add one. Nothing else has to be
told about it: the files of this folder are found by looking, and so are the modules that installed packages name under
the entry point group `cleangpt.tasks`. A task knows nothing of what is done with it.

    contract.py     what a task is: `Batch`, `Question`, `Task`, `TaskWithAnswers`
    usable.py       a look at a few samples before a training
    held_out.py     questions by number, cut into train, val and test by a permutation: `NumberedTask`
    strings.py      strings over an alphabet, by number
    copy.py         strings that are said again
    sort.py         digits that are put in order
    arithmetic.py   arithmetic, put together from what lies in lab/
    lab/            what is asked, how it is written, which problems
    text.py         windows of prepared text
"""

from cleangpt.basics import found
from cleangpt.basics.schema import Section
from cleangpt.tasks.contract import Task

SETTINGS = found.settings(__name__, "cleangpt.tasks")  # by name


def make(settings: Section, context: int | None = None) -> Task:
    """Make the task that these settings describe. `context` is what the model can read at once, if that is given."""
    return found.module_of(type(settings)).Task(settings, context)


def of(name: str) -> type[Task]:
    """Return the class of the task that answers to this name."""
    return found.module_of(SETTINGS[name]).Task
