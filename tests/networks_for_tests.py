"""Networks of a user's own, as the tests name them: "tests.networks_for_tests:small"."""

import torch
from torch import nn


class Small(nn.Module):
    """A convolution over brightness, and whatever a test adds."""

    def __init__(self, in_channels, outputs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, outputs, 3, padding=1)

    def forward(self, images):
        return self.conv(images.float() / 255)


def small(in_channels, outputs):
    return Small(in_channels, outputs)


class Strided(Small):
    stride = 24


class WrongStride(Small):
    stride = 1.5


def not_a_module(in_channels, outputs):
    return lambda images: images


def fails(in_channels, outputs):
    raise RuntimeError("no such file: backbone.pt")


class TakesNoBytes(Small):
    def forward(self, images):
        return self.conv(images)


class HalfSize(Small):
    def forward(self, images):
        return super().forward(images)[..., ::2, ::2]


class Pair(Small):
    def forward(self, images):
        return super().forward(images), None


class Half(Small):
    def forward(self, images):
        return super().forward(images).bfloat16()


class NotFinite(Small):
    def forward(self, images):
        return super().forward(images) / 0


class Detached(Small):
    def forward(self, images):
        return super().forward(images).detach()


class Noisy(Small):
    def forward(self, images):
        logits = super().forward(images)
        return logits + torch.rand_like(logits)


class ScalesBytesOnly(Small):
    def forward(self, images):
        return self.conv(images.float() / 255 if images.dtype == torch.uint8 else images)


class Tied(Small):
    def __init__(self, in_channels, outputs):
        super().__init__(in_channels, outputs)
        self.again = self.conv


class Frozen(Small):
    def __init__(self, in_channels, outputs):
        super().__init__(in_channels, outputs)
        self.requires_grad_(False)
