"""How fast a configuration is: in turn, with its spread.

    bench.py           one command of bench.py, with one measurement or the several of a suite
    run.py             one measurement, from a checked configuration to one plain dict
    turns.py           sides that do the same work, timed in turn
    train.py           a training step of ours, and a profile of a few
    decode.py          our greedy decoding, with each number of texts at once
    score.py           our exact scoring of a task
    page.py            the page over many runs, and a training beside it
    fit.py             whether a training fits, before a GPU is rented
    matmul.py          the peak of this machine, of which MFU is the share
    startup.py         seconds from the command to the first step
    random_tokens.py   random tokens in the place of a text that was not prepared
    show.py            a result as a table and sentences

What others do beside us, with `against=`, is not part of the package: it lies in benchmark/ of a checkout.
"""
