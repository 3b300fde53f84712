"""The loss of a large vocabulary, a piece of the tokens at a time: logits are made, used and forgotten.

Whole, the logits of 12 × 1024 tokens over GPT-2's vocabulary are 2.5 GB in float32, and their gradient as much again.
Gradients are made together with the losses, so that nothing is computed twice.
"""

from typing import Any

import torch
from torch import Tensor

# In a piece: 128 MB in float32. With half as many, steps took up to a tenth longer on an AMD EPYC (Zen 4).
LOGITS = 1 << 25


def worth_it(x: Tensor, vocabulary: int) -> bool:
    """Say whether the logits of x (…, C) are so many; float16 needs its loss scaled before gradients are made."""
    many = x.shape[:-1].numel() * vocabulary > LOGITS
    return many and torch.is_grad_enabled() and _dtype(x) != torch.float16


def _dtype(x: Tensor) -> torch.dtype:
    """Name the dtype of matmuls here."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


class Loss(torch.autograd.Function):
    """The sum of the weighted losses of logits = softcap(x · weightᵀ)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (N, C)
        weight: Tensor,  # (V, C)
        targets: Tensor,  # (N,)
        loss_weights: Tensor | None,  # (N,)
        softcap: float | None,
    ) -> Tensor:
        dtype = _dtype(x)
        head = weight.to(dtype)
        total = x.new_zeros((), dtype=torch.float32)
        of_x, of_weight = torch.empty_like(x), torch.zeros_like(weight)
        rows = max(1, LOGITS // len(weight))
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            inputs, wanted = x[part].to(dtype), targets[part, None]
            logits = (inputs @ head.T).float()  # (n, V)
            slope = None
            if softcap is not None:
                logits = torch.tanh(logits / softcap)
                slope, logits = 1 - logits.square(), logits * softcap
            losses = torch.logsumexp(logits, dim=1, keepdim=True)
            gradient = (logits - losses).exp_()
            losses = losses - logits.gather(1, wanted)
            gradient.scatter_add_(1, wanted, torch.full_like(losses, -1.0))
            if loss_weights is not None:
                losses, gradient = losses * loss_weights[part, None], gradient * loss_weights[part, None]
            if slope is not None:
                gradient = gradient * slope
            gradient = gradient.to(dtype)
            total = total + losses.sum()
            of_x[part] = gradient @ head
            if dtype == of_weight.dtype:
                of_weight.addmm_(gradient.T, inputs)
            else:
                of_weight += gradient.T @ inputs
        ctx.save_for_backward(of_x, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_weight = ctx.saved_tensors
        return of_x * scale, of_weight * scale, None, None, None
