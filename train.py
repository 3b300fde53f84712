"""Train a model.

python train.py model=llama dataset=adder
torchrun --nproc-per-node=4 train.py model=gpt dataset=multiplier dataset.digits=2
python train.py experiment=adder train.steps=500
python train.py -m model=gpt,llama optimizer.lr=1e-3,3e-4 seed=0,1,2
python train.py --help
"""

from cleangpt import programs

if __name__ == "__main__":
    programs.train()  # a shell that completes looks for @hydra.main
