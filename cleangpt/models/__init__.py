"""What learns: keys, layers, costs.

A model is one file here and one YAML in conf/model/. Its file defines `Settings`, the keys of its YAML, above its
first import of torch, and `Model`, which is made from them and keeps the contract. Nothing else has to be told about
it: the files of this folder are found by looking, and so are those of installed packages, in the entry point group
`cleangpt.models`. docs/new_model.md walks through lstm.py.

    contract.py   what a model has to say of itself: `LanguageModel`
    settings.py   the keys that models share
    build.py      models from their settings, and how many parameters they have
    gpt.py        GPT-2's architecture
    llama.py      Llama's architecture
    decoder.py    what these two do alike around their blocks
    attention.py  who looks at whom, and the kernels that compute it
    cache.py      keys and values of the tokens that were read
    norm.py       RMSNorm
    pieces.py     the loss of a large vocabulary, without its logits as a whole
    extras.py     an embedding of pairs, activations, a bound of logits, scores that fall with the distance
    lstm.py       a recurrent network, made of torch's own layers
"""

from cleangpt.basics import found

SETTINGS = found.settings(__name__, "cleangpt.models")  # by name
