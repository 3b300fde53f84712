"""The laboratory of arithmetic: three questions with one small file for each answer.

    operations/     what is asked: a sum, a product, the larger number, a string backwards, …
    formats/        how it is written: plainly, with a scratchpad, with hints, with rows that go
    sources/        which problems: all of a universe, some drawn by key, those of a file
    keys.py         the keys of all that
    figures.py      numbers and strings as digits, on whole batches
    operation.py    the contract of operations: `Operation`
    format.py       the contract of formats: `Format`, `Line`, `Style`, `Scratchpad`
    positions.py    which position each token has: natural, coupled, abacus, …
    packed.py       problems end to end, in windows that begin anywhere
    reading.py      problems and answers between tokens and what a person types and reads
    choices.py      the names of operations and formats, found by looking

A new operation is one file in operations/, a new format one in formats/: what is written here once is their contract.
"""
