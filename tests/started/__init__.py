"""Programs of the project, started as a user does.

programs.py      start a program, or run it to its end
launched.py      whole trainings, plain or under torchrun, and a wrapper that harms a rank
server.py        the process that forks most programs, which takes a fraction of the time
test_server.py   a forked program can't be told from one of a new interpreter
"""
