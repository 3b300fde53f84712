"""Models in Hugging Face's format, read and written.

hub.py            where one lies: a folder, the cache, the hub
architecture.py   what its config.json says ↔ our `model` section
tensors.py        what its tensors are called and how they lie ↔ ours
folder.py         a whole folder, in and out
pretrained.py     the weights that `init_from` names, theirs or ours
run.py            one command of export.py
"""
