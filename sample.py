"""Write text by a trained model: once, for many prompts, or as a conversation.

python sample.py run=latest prompt="Once upon a time" temperature=0.9 top_p=0.95
python sample.py run=<run>/best prompts=prompts.txt output=samples.jsonl num_samples=4
printf '123+456\n7+8\n' | python sample.py run=latest
python sample.py run=latest interactive=true
"""

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import SampleConfig


def main(asked: Asked[SampleConfig]) -> int:
    from cleangpt.sample import run

    return run.sample(asked.config)


if __name__ == "__main__":
    cli.start(main, SampleConfig, "sample")  # a shell that completes looks for @hydra.main
