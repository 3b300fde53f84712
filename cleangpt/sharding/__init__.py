"""Models divided among processes, on torch's FSDP2: weights, gradients and optimizer. Its internals stay here.

make.py         a model, whole or divided, as a configuration asks
divide.py       which rows of which tensor a process holds, and whole tensors put into them and gathered from them
gradients.py    the gradients of what is divided, with one small sum a step
owners.py       matrices that one process needs whole for a moment, as Muon does
"""
