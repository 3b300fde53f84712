"""Text as numbers: tokenizers.

tokenizers.py  kinds of tokenizers, and where they come from
exchange.py    ours to and from tokenizer.json, as others read it
as_text.py     tokens as text while they come
"""
