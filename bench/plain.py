"""The yardstick: the same network as anyone would write it in PyTorch, without this package's care.

Nothing here imports imasks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Convolutions with ReLU, then batch norm."""

    def __init__(self, *shapes: tuple[int, int, int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, padding="same") for i, o, k in shapes)
        self.norm = nn.BatchNorm2d(shapes[-1][1], eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.norm(x)


class PlainUNet(nn.Module):
    """The published U-Net; images float32 [N, 3, H, W] in 0..255."""

    def __init__(self, *, width: float, outputs: int = 1) -> None:
        super().__init__()
        f = [int(base * width) for base in (16, 32, 64, 128, 256)]
        self.stem = Block((3, f[0], 1))
        self.down = nn.ModuleList(
            Block((f[max(i - 1, 0)], f[i], 3), (f[i], f[i], 1)) for i in range(4)
        )
        self.middle = Block((f[3], f[4], 3), (f[4], f[3], 1))
        steps = ((f[3], f[2]), (f[2], f[1]), (f[1], f[0]), (f[0], f[0]))
        self.enter = nn.ModuleList(Block((a, a, 1)) for a, _ in steps)
        self.leave = nn.ModuleList(Block((a, a, 3), (a, b, 1)) for a, b in steps)
        self.head = nn.Conv2d(f[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images / 255)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for enter, leave, skip in zip(self.enter, self.leave, reversed(skips), strict=True):
            x = leave(enter(F.interpolate(x, scale_factor=2) + skip))
        return self.head(x)


def training(
    *, width: float, size: int, batch: int, device: str = "cpu", bfloat16: bool = False
) -> Callable[[], None]:
    """Return a function that makes one optimiser step on random images."""
    torch.manual_seed(0)
    network = PlainUNet(width=width).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images, labels = _pairs(batch, size, device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            logits = network(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def labelling(
    *, width: float, size: int, batch: int, networks: int, device: str = "cpu"
) -> Callable[[], None]:
    """Return a function that labels a batch of random images where all networks agree."""
    torch.manual_seed(0)
    made = [PlainUNet(width=width).to(device, memory_format=torch.channels_last).eval()]
    made += [PlainUNet(width=width).to(device, memory_format=torch.channels_last).eval()
             for _ in range(networks - 1)]  # fmt: skip
    images, _ = _pairs(batch, size, device)

    @torch.no_grad()
    def step() -> None:
        votes = torch.stack([network(images).sigmoid() > 0.5 for network in made])
        (votes.all(0), votes.any(0) & ~votes.all(0))

    return step


def _pairs(batch: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (batch, 3, size, size), device=device).float()
    images = images.contiguous(memory_format=torch.channels_last)
    return images, (images.mean(1, keepdim=True) > 127).float()
