"""The weights of a network side by side in one tensor.

Optimiser and average cost about ten microseconds a tensor on a processor, and small networks have
a hundred tensors: a tenth of a step on small images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imasks.models.evalnet import EvalNet
from imasks.models.unet import UNet


class Flat:
    """Weights of a network, which become views of one tensor, and their gradients in another.

    Every weight must learn at every step: with a gradient missing, the optimiser would have to
    leave that weight alone, and it sees one tensor only. See :func:`can_be_flat`.

    Args:
        network: changed in place; it computes what it did before.
    """

    def __init__(self, network: nn.Module) -> None:
        self._variables = list(network.parameters())
        count = sum(v.numel() for v in self._variables)
        self.weights = nn.Parameter(self._variables[0].new_empty(count))
        self.weights.grad = torch.zeros_like(self.weights)
        for v, view in zip(self._variables, self._views(self.weights.data), strict=True):
            v.data = view.copy_(v.data)
        self._grads = self._views(self.weights.grad)

    def gather(self) -> None:
        """Bring the gradients of the weights together, for the optimiser of ``weights``."""
        with torch.no_grad():
            torch._foreach_copy_(self._grads, [_gradient(v) for v in self._variables])

    def _views(self, whole: Tensor) -> list[Tensor]:
        """See parts of a tensor as the weights lie in memory: dense, in whatever order."""
        sizes = [v.numel() for v in self._variables]
        parts = torch.split(whole, sizes)
        return [
            p.as_strided(v.shape, v.stride()) for p, v in zip(parts, self._variables, strict=True)
        ]


def _gradient(variable: Tensor) -> Tensor:
    if variable.grad is None:
        raise RuntimeError("a weight has no gradient: this network cannot be flat")
    return variable.grad


def can_be_flat(network: nn.Module) -> bool:
    """Whether all weights of a network learn at every step: this is known of our own ones."""
    return isinstance(network, UNet | EvalNet) and all(
        v.requires_grad for v in network.parameters()
    )
