"""Attacks on a run and on what it opens: `make faults`, `make nodes`, `make fuzz`.

faults.py               interrupt trainings in every way we know, resume them, compare every bit
faults_of_torchrun.py   the same for several ranks
nodes.py                trainings on several nodes that die, stop, and lose their network
namespaces.py           such nodes, on one machine
interrupted.py          the small trainings that are interrupted
fuzz.py                 open damaged and hostile files
openings.py             what each program does with a folder that it opens
"""
