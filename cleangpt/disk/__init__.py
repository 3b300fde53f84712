"""Files on the disk: run directories and all in them.

rundir.py       where things lie in a run directory, and how programs find one
claim.py        one training at a time in a run directory
alive.py        whether a run is trained just now, and a request to stop
notes.py        what a person wrote about a run
weights.py      a folder from which a model can be used: weights, configuration, tokenizer
migrations.py   stored configurations of earlier versions
record.py       run.json: how a run was started, on which machine
alike.py        whether runs were computed alike
card.py         card.md: a page about a run
"""
