"""One training, from a configuration to a run directory.

launch.py      which run directory, in how many processes
resuming.py    whether a run goes on, and with which configuration
whole.py       set all up, train, end
loop.py        the optimizer step, and what falls between steps
stream.py      sample k of a run, and which samples a process computes
finite.py      steps whose loss or gradient is not a number
compiling.py   torch.compile where it pays
ending.py      what a run leaves, and how it says so
verdict.py     whether it learned what it was asked to
telling.py     what is said at the beginning and at the end
"""
