"""RMSNorm (Zhang & Sennrich, 2019), with a backward pass of its own where torch has no fused kernel.

On a CPU torch differentiates it operation by operation, which takes twice as long.
"""

from typing import Any

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        by_hand = x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled()
        if by_hand and not torch.compiler.is_compiling():
            return _Normalised.apply(x, self.weight, self.eps)
        return super().forward(x)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = squares.mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale  # root mean square 1
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        product = given * unit
        of_weight = product.flatten(0, -2).sum(dim=0)
        along = (product @ weight).unsqueeze(-1).mul_(1 / unit.shape[-1])  # what would only change the length
        return (given * weight).addcmul_(unit, along, value=-1).mul_(scale), of_weight, None
