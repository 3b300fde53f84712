"""One thread for each test process: contending threads are far slower than few."""

import torch

torch.set_num_threads(1)
