"""An ensemble as one graph of tensors, from images of any size to all that is said about them.

Shape letters: E networks, N images, C image channels, O network outputs, P planes of a discrete
mask, K classes, H x W pixels of the images, h x w pixels as the networks see them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imasks.deploy.about import CLASS_QUALITY, OUTPUTS, QUALITY
from imasks.errors import UserError
from imasks.labelling.calibration import Calibration
from imasks.labelling.grading import pair_of
from imasks.labelling.judge import Judge
from imasks.models.networks import NetworkConfig, stride_of
from imasks.runs.predictor import Predictor
from imasks.tasks import DETECTED


class EnsembleGraph(nn.Module):
    """All that ``imasks predict`` asks of an ensemble, as one module without Python decisions.

    Args:
        predictor: the ensemble; its scale plays no part. Images are shown whole, or, to networks
            that learned from tiles, at their own size.

    Raises:
        UserError: the predictor is not on the CPU.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        if predictor.device.type != "cpu":
            raise UserError(
                "models are exported on the CPU", value=predictor.device, remedy="Load it there."
            )
        prep = predictor.preparation
        self.networks = nn.ModuleList(predictor.networks)
        self.task = predictor.task
        self.size = prep.size
        self.whole = prep.fit == "resize"
        self.levels = prep.levels
        self.step = math.lcm(
            *(stride_of(cast("NetworkConfig", one.config)) for one in predictor.networks)
        )
        judge = predictor.judge if self.whole else None
        self.judge = None if judge is None else _Judge(judge, predictor.calibration)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        judged = () if self.judge is None else (QUALITY,)
        return (*OUTPUTS, *judged, *((CLASS_QUALITY,) if judged and self.task.detects else ()))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Say all about images.

        Args:
            images: [N,H,W,C], uint8; or, where the run learned from deeper images, float32 of
                their own grey values.

        Returns:
            labels: uint8 [N,P,H,W] in the encoding of mask files.
            inconsistency: bool [N,1,H,W], where the networks' decisions differ.
            probabilities: float32 [N,O,H,W], the networks' mean.
            members: float32 [E,N,O,h,w], each network's at the size it sees.
            quality: float32 [N], where EvalNets judge: the score to expect of each mask.
            class_quality: float32 [N,K], where they tell classes apart: the IoU to expect of each,
                NaN of those they do not find.
        """
        H, W = images.shape[1:3]
        seen = self._seen(self._to_bytes(images))
        members = torch.stack([self.task.probabilities(one(seen)) for one in self.networks])
        mean, im = self._vote(members, H, W)
        labels = self.task.to_user(self.task.discrete(mean, reserved=False))
        judged = () if self.judge is None else self.judge(seen, members)
        return (labels, im, mean, members, *judged)

    def _to_bytes(self, images: Tensor) -> Tensor:
        """As :func:`imasks.data.prepare.to_uint8`; [N,H,W,C] to uint8 [N,C,H,W]."""
        if self.levels is not None:
            low, high = torch.tensor(self.levels, dtype=torch.float64).unbind(1)
            scaled = (images.double() - low) / (high - low) * 255
            images = scaled.clamp(0, 255).round().to(torch.uint8)
        return images.permute(0, 3, 1, 2)

    def _seen(self, images: Tensor) -> Tensor:
        """Resize uint8 to the training size, or pad to the stride; float32 [N,C,h,w]."""
        if self.whole:  # on uint8, what Pillow does in training but for a grey level here and there
            small = F.interpolate(
                images, self.size, mode="bilinear", align_corners=False, antialias=True
            )
            return small.float()
        rows, columns = (
            torch.arange(self.step * ((side + self.step - 1) // self.step)).clamp(max=side - 1)
            for side in images.shape[2:]
        )
        return images[:, :, rows][..., columns].float()

    def _vote(self, members: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
        """As :func:`imasks.runs.deciding.predict_from`: mean [N,O,H,W] and mask [N,1,H,W]."""
        own = [self._resized(member, H, W) for member in members.unbind(0)]
        votes = [self.task.discrete(one, reserved=False) for one in own]
        im = torch.zeros_like(votes[0], dtype=torch.bool)
        for vote in votes[1:]:
            im = im | (vote != votes[0])
        return torch.stack(own).mean(0), im.any(1, keepdim=True)

    def _resized(self, probability: Tensor, H: int, W: int) -> Tensor:
        if self.whole:
            return F.interpolate(
                probability, (H, W), mode="bilinear", align_corners=False, antialias=True
            )
        return probability[:, :, torch.arange(H)][..., torch.arange(W)]


class _Judge(nn.Module):
    """As :class:`imasks.labelling.judge.Judge`, with the calibration behind it."""

    def __init__(self, judge: Judge, calibration: Calibration | None) -> None:
        super().__init__()
        self.evalnets = nn.ModuleList(judge.evalnets)
        self.task, self.plain = judge.task, judge.plain
        self.calibration = None if calibration is None else _Calibrated(calibration)

    def forward(self, images: Tensor, members: Tensor) -> tuple[Tensor, ...]:
        """Judge [E,N,O,h,w] of images [N,C,h,w]: [N], and [N,K] of tasks that detect."""
        if self.plain:
            masks = self.task.discrete(members.mean(0), reserved=False)
        else:
            votes = torch.stack([self.task.discrete(one) for one in members.unbind(0)])
            masks, region = pair_of(votes, self.task)
            images = images.masked_fill(region, 0)
        shown = self.task.mask_input(masks)
        answers = torch.stack([one(images, shown) for one in self.evalnets]).sigmoid().mean(0)
        score = self.task.pair_score(answers)
        quality = score if self.calibration is None else self.calibration(score)
        if not self.task.detects:
            return (quality,)
        iou, detected = answers[:, :, -len(self.task.classes) :].unbind(1)
        return quality, iou.masked_fill(detected < DETECTED, float("nan"))


class _Calibrated(nn.Module):
    """As :class:`imasks.labelling.calibration.Calibration`: straight lines between knots.

    Written as a sum of ramps, since ONNX knows no search in sorted values.
    """

    starts: Tensor
    lengths: Tensor
    rises: Tensor
    lowest: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        knots = {
            "starts": calibration.scores[:-1],
            "lengths": np.diff(calibration.scores),
            "rises": np.diff(calibration.quality),
            "lowest": calibration.quality[:1],
        }
        for name, values in knots.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.float64)))

    def forward(self, scores: Tensor) -> Tensor:
        """Expected quality float32 [N] of scores float32 [N]."""
        way = ((scores.double()[:, None] - self.starts) / self.lengths).clamp(0, 1)
        return ((way * self.rises).sum(1) + self.lowest).float()


def said(graph: EnsembleGraph, images: np.ndarray) -> Mapping[str, np.ndarray]:
    """Ask PyTorch about images [N,H,W,C], see :meth:`EnsembleGraph.forward`."""
    with torch.inference_mode():
        found = cast("tuple[Tensor, ...]", graph(torch.from_numpy(images)))
    return {name: one.numpy() for name, one in zip(graph.outputs, found, strict=True)}
