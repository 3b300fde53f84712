"""The sides that bench.py compares us with, beside the package.

    sides.py               each side with `against=`, by what is measured
    plain_loop.py          the training loop that everybody writes first
    plain_model.py         GPT and Llama in torch's own modules
    transformers_model.py  our weights in transformers' own class
    litgpt_model.py        our weights in litgpt's own class
    peers.py               these models by name, and the proof that they compute what ours computes
    other_process.py       a side in a process of its own, where nothing is set as our programs set it

    sweeps.py              a program of its own: jobs that are forked against jobs that are started

`cleangpt.measure` imports `sides` when `against=` asks for it, and nothing else of this.
"""
