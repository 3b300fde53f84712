"""Turn a trained model into a folder that others open, and others' models into folders that we open.

python export.py run=latest format=hf out=mine
python export.py run=openai-community/gpt2 format=cleangpt out=gpt2
"""

from cleangpt import programs

if __name__ == "__main__":
    programs.export()  # a shell that completes looks for @hydra.main
