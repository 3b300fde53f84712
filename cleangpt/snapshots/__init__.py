"""What a training needs to go on, kept on the disk.

snapshot.py    what a snapshot holds, and which are good
saving.py      one written, by one process or by several together
together.py    what threads of several processes tell each other meanwhile
restoring.py   one read again, by any number of processes
state.py       what it holds besides weights and optimizer
writer.py      files that are written in the background
"""
