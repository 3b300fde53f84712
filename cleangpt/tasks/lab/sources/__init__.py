"""Which problems: all of a universe, by number, or some drawn by key.

universe.py    every problem of two numbers, split by pair
numbered.py    every string of up to so many digits
strata.py      a fixed sample of a huge universe, with short and long numbers
"""
