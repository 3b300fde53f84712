"""What a training takes of a device's memory, before any is taken.

meter.py      the bytes of tensors that are alive while operations run
imagined.py   a step on tensors without values: what it holds at its peak, and what it sends
need.py       what a whole training needs; what `auto` means for its micro-batch and for dividing it
least.py      what can't fit, refused by the least that it takes
cards.py      the memory of cards that one can rent
"""
