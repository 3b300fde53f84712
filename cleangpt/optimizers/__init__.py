"""Optimizers and schedules: how a model learns.

An optimizer is one file here and one YAML in conf/optimizer/. Its file defines `Settings`, the keys of its YAML, above
its first import of torch, and `Optimizer`, as optim.py describes it. The files of this folder are found by looking, and
so are those of installed packages, in the entry point group `cleangpt.optimizers`; docs/new_optimizer.md shows one. A
schedule is a function in styles.py and a YAML in conf/schedule/.

    settings.py  the keys that optimizers share, and those of schedules
    optim.py     which parameters are trained, in groups, and by what
    adamw.py     AdamW, by torch's fused kernel
    muon.py      Muon, for the matrices between hidden layers
    styles.py    the shapes of a way from one value to another
    schedule.py  learning rate, weight decay and accumulation at a step
"""

from cleangpt.basics import found

SETTINGS = found.settings(__name__, "cleangpt.optimizers")  # by name
