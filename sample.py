"""Text from a trained model: once, for many prompts, or as a conversation.

python sample.py run=latest prompt="Once upon a time" temperature=0.9 top_p=0.95
python sample.py run=<run>/best prompts=prompts.txt output=samples.jsonl num_samples=4
printf '123+456\n7+8\n' | python sample.py run=latest
python sample.py run=latest interactive=true
"""

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

import hydra
from omegaconf import DictConfig

from cleangpt.basics import schema
from cleangpt.config import cli, composition
from cleangpt.config.programs import SampleConfig
from cleangpt.runs.rundir import find, read_config
from cleangpt.terminal import patience


@hydra.main(version_base=None, config_path=composition.CONF, config_name="sample")
def main(config: DictConfig) -> None:
    settings = schema.parse(composition.plain(config), SampleConfig)
    cli.run(lambda: sample(settings))


def sample(settings: SampleConfig) -> int:
    from cleangpt.sample import prompts

    opened = find(settings.run)
    trained = read_config(opened.folder / "config.json")
    reader = prompts.Reader(opened.folder, trained)
    patience.started()  # from here on it may be standard input that is waited for
    asked = [] if settings.interactive else prompts.given(settings, reader)

    patience.load_torch()
    with patience.doing("Loading the rest"):
        from cleangpt.runs import snapshot
        from cleangpt.sample import text_model

    text_model.refuse_unwritable(settings.output)
    with patience.doing("Reading the weights"):
        snapshot.refuse_damage(opened.folder)
        model = text_model.TextModel(opened, trained, reader, settings)
    if settings.interactive:
        from cleangpt.sample.conversation import Conversation

        return Conversation(model, settings).run()
    text_model.note(model.name)
    return text_model.answer(model, asked, settings)


if __name__ == "__main__":
    cli.start(main, SampleConfig, "sample")
