"""One thread for each test process, since contending threads are far slower than few; and the longest tests first,
so that no process is left with one of them at the end."""

import os

import torch

torch.set_num_threads(1)
os.environ.setdefault("CLEANGPT_PATIENCE", "inf")  # what a slow machine says of its slowness is no matter of most tests
LONGEST = ("test_readme", "test_launch", "test_conf", "test_sweeps", "test_harness")


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.module.__name__.rpartition(".")[2]
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)
