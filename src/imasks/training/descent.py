"""One optimiser step after another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imasks.models.encoded import parameter_groups
from imasks.training.flat import Flat, can_be_flat
from imasks.training.recipe import Recipe


class Descent:
    """Changes the weights of a network so that losses become smaller.

    Args:
        network: its weights come to lie side by side where they can (:mod:`imasks.training.flat`).
        recipe: of the optimiser.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.flat = Flat(network) if can_be_flat(network) else None
        self.variables = list(network.parameters())
        self.optimiser = make_optimiser(network, recipe, self.flat)
        self._clip = recipe.clip

    def step(self, loss: Tensor, *, rate: float) -> None:
        """Make one step down a loss at this learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * rate
        for variable in self.variables:
            variable.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip:
            nn.utils.clip_grad_norm_(self.variables, self._clip)
        if self.flat is not None:
            self.flat.gather()
        self.optimiser.step()


def make_optimiser(
    network: nn.Module, recipe: Recipe, flat: Flat | None = None
) -> torch.optim.AdamW:
    """Return AdamW over *all* variables, biases and batch norm included, as published.

    Encoders from elsewhere may learn more slowly than the rest, or not at all. With ``flat``, it
    changes the weights in one step, and needs their gradients there.
    """
    groups = [{"params": [flat.weights], "rate": 1.0}] if flat else parameter_groups(network)
    return torch.optim.AdamW(
        groups,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        eps=recipe.epsilon,
        fused=True,
    )
