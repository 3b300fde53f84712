"""Python's side of CleanGPT: what `import cleangpt` offers, for notebooks and scripts.

words.py      what was asked, in the words of a command line
composing.py  the configuration that they make, without a trace of Hydra
starting.py   trainings and sweeps, in processes of their own
following.py  a training as it goes on: its rows, and a bar
run.py        a run: to train one, to look at one, and the model that it trained
answers.py    what a model says: texts, answers, next tokens
many.py       several runs, swept or found, and what comes of comparing them
drawing.py    pictures of a run and of several
shown.py      tables and pictures, as a notebook shows them
"""
