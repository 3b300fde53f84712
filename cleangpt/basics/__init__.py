"""Errors, checked keys, files, words, seeds.

errors.py      mistakes of a user, apart from those of a program
schema.py      checked sections of keys, with every mistake in a sentence
found.py       what can be chosen, found by looking
files.py       files that are whole or not there
untrusted.py   files that somebody else made
shown.py       text that somebody else wrote, shown so that it steers nothing
words.py       numbers and names in the words of a sentence
seeds.py       random numbers that are pure functions of their keys
extras.py      commands that install what only some of it needs
verbs.py       the programs by their verbs: how a person starts one, and how one starts another
version.py     the version, in its one place
"""
