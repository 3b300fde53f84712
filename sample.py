"""Text from a trained model: once, for many prompts, or as a conversation.

python sample.py run=latest prompt="Once upon a time" temperature=0.9 top_p=0.95
python sample.py run=<run>/best prompts=prompts.txt output=samples.jsonl num_samples=4
printf '123+456\n7+8\n' | python sample.py run=latest
python sample.py run=latest interactive=true
"""

from cleangpt import beginning

if __name__ == "__main__":
    beginning.program()

import hydra
from omegaconf import DictConfig

from cleangpt import cli, patience, schema
from cleangpt.config import SampleConfig
from cleangpt.rundir import find, read_config


@hydra.main(version_base=None, config_path=cli.CONF, config_name="sample")
def main(config: DictConfig) -> None:
    settings = schema.parse(cli.plain(config), SampleConfig)
    cli.run(lambda: sample(settings))


def sample(settings: SampleConfig) -> int:
    from cleangpt import prompts

    opened = find(settings.run)
    trained = read_config(opened.folder / "config.json")
    reader = prompts.Reader(opened.folder, trained)
    patience.started()  # from here on it may be standard input that is waited for
    asked = [] if settings.interactive else prompts.given(settings, reader)

    patience.load_torch()
    with patience.doing("Loading the rest"):
        from cleangpt import samples, snapshot

    samples.refuse_unwritable(settings.output)
    with patience.doing("Reading the weights"):
        snapshot.refuse_damage(opened.folder)
        voice = samples.Voice(opened, trained, reader, settings)
    if settings.interactive:
        from cleangpt.conversation import Conversation

        return Conversation(voice, settings).run()
    samples.note(voice.name)
    return samples.answer(voice, asked, settings)


if __name__ == "__main__":
    cli.start(main, SampleConfig, "sample")
