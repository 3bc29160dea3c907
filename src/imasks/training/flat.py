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
    leave that weight alone, and it sees one tensor only. See :func:`can_be_flat`. PyTorch does not
    notice that a step changes the network's weights: no graph may outlive one.

    Args:
        network: changed in place; it computes what it did before.
    """

    def __init__(self, network: nn.Module) -> None:
        self._names = [name for name, _ in network.named_parameters()]
        self._variables = list(network.parameters())
        count = sum(v.numel() for v in self._variables)
        self.weights = nn.Parameter(self._variables[0].new_empty(count))
        for v, view in zip(self._variables, self.views(self.weights.data), strict=True):
            v.data = view.copy_(v.data)
        self._grads: list[Tensor] = []

    def gather(self) -> None:
        """Bring the gradients of the weights together, for the optimiser of ``weights``."""
        if not self._grads:
            self.weights.grad = torch.empty_like(self.weights)
            self._grads = self.views(self.weights.grad)
        found = [v.grad for v in self._variables if v.grad is not None]
        if len(found) < len(self._variables):
            missing = next(
                n for n, v in zip(self._names, self._variables, strict=True) if v.grad is None
            )
            raise RuntimeError(f"{missing} has no gradient: this network cannot be flat")
        with torch.no_grad():
            torch._foreach_copy_(self._grads, found)

    def views(self, whole: Tensor) -> list[Tensor]:
        """See parts of such a tensor as the weights lie in memory: dense, in whatever order."""
        parts = torch.split(whole, [v.numel() for v in self._variables])
        return [
            p.as_strided(v.shape, v.stride()) for p, v in zip(parts, self._variables, strict=True)
        ]


def can_be_flat(network: nn.Module) -> bool:
    """Whether all weights of a network learn at every step, on a processor.

    This is known of our own networks. On a GPU the optimiser takes few steps for all anyway.
    """
    return type(network) in (UNet, EvalNet) and all(
        v.requires_grad and v.device.type == "cpu" for v in network.parameters()
    )
