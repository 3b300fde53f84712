"""What learns. A model is one file here and one YAML in conf/model/.

Its file defines `Settings`, the keys of its YAML, above its first import of torch, and `Model`, which is made from
them and keeps the contract in contract.py. Nothing else has to be told about it: the files of this folder are found
by looking, and so are those of installed packages, in the entry point group `cleangpt.models`. docs/new_model.md
walks through lstm.py.

    contract    what a model has to say of itself
    settings    the keys that models share
    build       models from their settings, and how many parameters they have
    gpt, llama  transformers, made of decoder, attention, cache, extras and norm
    lstm        a recurrent network, made of torch's own layers
"""

from cleangpt.basics import found

SETTINGS = found.settings(__name__, "cleangpt.models")  # by name
