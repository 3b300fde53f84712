"""Matrices that lie as the CPU's kernels read them, for a model that only decodes.

A matmul of a few rows by a large matrix takes most of its time to bring the matrix into that order, at each token anew.
oneDNN does it once; what it computes is the same but for the rounding of sums.
"""

from functools import cache

import torch
from torch import Tensor, nn

LARGE = 1 << 16  # elements: below them other things take the time


class Packed(nn.Module):
    """A linear layer that is only read."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


@cache
def available(dtype: torch.dtype) -> bool:
    """Say whether this torch has these kernels for this processor; they are what its compiler uses, and no promise."""
    linear = nn.Linear(32, 32, device="meta").to_empty(device="cpu").to(dtype)
    try:
        with torch.inference_mode():
            Packed(linear)(torch.zeros(1, 32, dtype=dtype))
    except (RuntimeError, AttributeError):
        return False
    return True


@torch.inference_mode()
def pack(model: nn.Module) -> None:
    """Pack the large linear layers of a model on the CPU, where torch can."""
    for module in [each for each in model.modules() if type(each) is not nn.Linear]:  # so that each is freed in turn
        for name in [name for name, _ in module.named_children()]:
            linear = module.get_submodule(name)
            if type(linear) is nn.Linear and _pays(linear.weight) and available(linear.weight.dtype):
                setattr(module, name, Packed(linear))


def _pays(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.numel() >= LARGE
