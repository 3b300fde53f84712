"""One command of sample.py: from what was asked to texts, or to a conversation."""

from cleangpt.config.programs import SampleConfig
from cleangpt.disk.rundir import find, read_config
from cleangpt.sample import prompts
from cleangpt.terminal import patience


def sample(settings: SampleConfig) -> int:
    opened = find(settings.run)
    trained = read_config(opened.folder / "config.json")
    reader = prompts.Reader(opened.folder, trained)
    patience.started()  # from here on it may be standard input that is waited for
    asked = [] if settings.interactive else prompts.given(settings, reader)

    patience.load_torch()
    with patience.doing("Loading the rest"):
        from cleangpt.sample import text_model
        from cleangpt.snapshots import snapshot

    text_model.refuse_unwritable(settings.output)
    with patience.doing("Reading the weights"):
        snapshot.refuse_damage(opened.folder)
        model = text_model.TextModel(opened, trained, reader, settings)
    if settings.interactive:
        from cleangpt.sample.conversation import Conversation

        return Conversation(model, settings).run()
    text_model.note(model.name)
    return text_model.answer(model, asked, settings)
