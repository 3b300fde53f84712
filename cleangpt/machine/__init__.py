"""Devices, processes and signals of the machine.

beginning.py     how a program begins, and what Ctrl-C does to it
session.py       device, threads and process group of a program that computes
device.py        where to compute, in which dtype, with how many threads
cores.py         how many cores there are to compute with
processor.py     what the processor has instructions for
process.py       how threads wait, how memory is kept, when garbage is collected
launcher.py      the place of this process among others, and words between them
distributed.py   the process group and its collectives
signals.py       requests to stop
guard.py         no orphans: a process leaves when its launcher is gone
compiler.py      torch.compile: whether it finds a compiler, and how it chooses kernels
peaks.py         peaks of devices in FLOP/s
"""
