"""What tests of several rooms share.

any_model.py                small models of any kind that is registered
architectures.py            small models of every shape of attention
architectures_of_others.py  small models of transformers' classes, and of ours in their format
compared.py                 run directories to be compared, made without a training
configs.py                  whole configurations at toy size, and what a program says about a command line
corpora.py                  small texts, prepared
limits.py                   a limit of time
pretrained.py               models as transformers saves them
refusals.py                 what is refused, and in which words
rote.py                     a model that knows its answers by heart, to be scored
saved_models.py             small models in folders as training leaves them
sums.py                     tasks of arithmetic
sweeping.py                 jobs of toy sweeps, and an executor that only pretends to run them
trainings.py                toy trainings inside the test's own process
"""
