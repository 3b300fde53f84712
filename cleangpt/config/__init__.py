"""From a command line to a checked configuration.

experiment.py     every key of a training: its type, bounds and meaning
programs.py       the keys of the other programs
cli.py            how every program starts and ends
command_line.py   words: told apart, quoted, found again
look_ahead.py     every mistake of a command line, named at once before Hydra runs
composition.py    what Hydra composes from conf/, as plain data
program_help.py   what --help says
asked.py          what was asked for: the checked configuration, and the words that were given
"""
