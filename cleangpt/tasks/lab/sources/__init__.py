"""Which problems: all of a universe, by number, some drawn by key, or those of a file.

choose.py      which of these a task has, and the further sets that it is scored on
parts.py       the keys of parts of a mixture and of sets, and what can be wrong with them
universe.py    every problem of two numbers, split by pair
numbered.py    every string of up to so many digits
drawn.py       problems drawn by key, held out by a hash
listed.py      problems of a file
strata.py      a fixed sample of a huge universe, with short and long numbers
"""
