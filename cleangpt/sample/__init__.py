"""Text out of a model.

generate.py       decoding with a cache: texts of different lengths in one batch
packed.py         matrices that lie as a CPU's kernels read them
choose.py         from the logits of the next token to the token
prompts.py        where prompts come from, and how a model reads them
text_model.py     a trained model that goes on with prompts, shown or kept
conversation.py   a conversation with it at a terminal
run.py            one command of sample.py
"""
