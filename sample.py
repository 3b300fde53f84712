"""Write text by a trained model: once, for many prompts, or as a conversation.

python sample.py run=latest prompt="Once upon a time" temperature=0.9 top_p=0.95
python sample.py run=<run>/best prompts=prompts.txt output=samples.jsonl num_samples=4
printf '123+456\n7+8\n' | python sample.py run=latest
python sample.py run=latest interactive=true
"""

from cleangpt import programs

if __name__ == "__main__":
    programs.sample()  # a shell that completes looks for @hydra.main
