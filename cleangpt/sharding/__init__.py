"""Where weights, gradients and optimizer lie: whole, or divided by FSDP2, whose internals stay here.

make.py         a model, whole or divided, as a configuration asks
flat.py         all gradients in one buffer, summed over processes
parts.py        which rows of a tensor a process holds
divide.py       a model whose rows lie on several processes, and whole tensors put into them and gathered from them
gradients.py    the gradients of what is divided, with one small sum a step
pretend.py      processes that do not exist, to see what one of them does
owners.py       matrices that one process needs whole for a moment, as Muon does
"""
