"""AdamW by torch's fused kernel: one call for each group of parameters."""

from typing import Any, Literal

from pydantic import Field

from cleangpt.optimizers.settings import AdamSettings


class Settings(AdamSettings):
    name: Literal["adamw"] = Field(description="the optimizer")


import torch
from torch import Tensor, nn


class AdamW:
    """Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019, by torch's fused kernel.

    torch.optim loads torch's compiler as soon as an optimizer is made, which takes longer than all the rest of a
    start; what it does besides is not needed here.
    """

    divides = True  # it works on some rows of a matrix as on all of it

    def __init__(self, config: AdamSettings, groups: list[dict[str, Any]]):
        self.betas, self.eps = (config.beta1, config.beta2), config.eps
        self.param_groups = groups
        device = groups[0]["params"][0].device
        self.steps = torch.zeros((), dtype=torch.float32, device=device)  # the same for all parameters
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {
            p: {"step": self.steps, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for group in groups
            for p in group["params"]
        }

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for group in self.param_groups:
            parameters = group["params"]
            states = [self.state[parameter] for parameter in parameters]
            torch._fused_adamw_(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [self.steps] * len(parameters),
                lr=group["lr"],
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=group["weight_decay"],
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )


Optimizer = AdamW
