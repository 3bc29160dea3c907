"""From a finished run to predictions on images of any size.

Shape letters: E networks of the ensemble, C network outputs, K classes, P planes of a discrete
mask, H x W pixels of the image, h x w pixels as the networks see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imasks.data.prepare import Preparation, resize_image, to_uint8
from imasks.errors import UserError
from imasks.labelling.agree import cut_region, inconsistency
from imasks.labelling.calibration import Calibration
from imasks.labelling.judge import Judge
from imasks.models.weights import load_network
from imasks.runs.bands import tiled
from imasks.runs.choice import Chosen, choose
from imasks.runs.configure import find_device
from imasks.runs.run import Run
from imasks.runs.work import judge_of
from imasks.tasks import DETECTED, Multiclass, Multilabel, Task
from imasks.training.predict import images_on, probabilities

LARGER = 1.5  # an image larger than so many times the largest seen shows more, not finer detail

Bytes = NDArray[np.uint8]
SCALES = ("auto", "whole", "native")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What an ensemble says about one image, at the image's own size.

    Args:
        mask: uint8 in the encoding of the user's mask files: binary [H,W] 0/1, multiclass [H,W]
            class ids, multilabel [K,H,W] 0/1; decided on the networks' mean probability, and
            never the index that is reserved for the inconsistency mask.
        im: the inconsistency mask, bool [H,W]: where the networks' own decisions differ, in any
            plane.
        agreement: share of pixels where all networks decide alike, 1 - `im_share`.
        im_share: share of pixels in `im`.
        confidence: mean over pixels (and planes) of the mean probability of what was decided.
            Probability that a multiclass network gives to the reserved index is lost to it.
        areas: share of pixels of every class, by name.
        counts: how many things the classes show that are points, by the names of
            :attr:`imasks.tasks.Task.counted`; empty without such classes.
        quality: the run's primary score that this mask may be expected to reach, as EvalNets see
            it, calibrated on the validation images; None where the run taught none, and for images
            predicted in tiles.
        class_quality: the IoU that EvalNets expect of every class they find, by name; not
            calibrated. Empty where there is no quality, and for binary tasks.
    """

    mask: Bytes
    im: NDArray[np.bool_]
    agreement: float
    im_share: float
    confidence: float
    areas: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)
    quality: float | None = None
    class_quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """An ensemble that is called with one image, [H,W] or [H,W,C].

    It holds 4 bytes x E x C x h x w of probabilities, and at most another 12 bytes x C x H x W
    while the networks vote one after another. With 3 networks, 5 outputs and an image of 4000 x
    3000 pixels in tiles that is 1.4 GB in main memory; whole, it is 0.7 GB.

    Args:
        networks: E networks in evaluation mode on `device`; uint8 or float [N,C,h,w] in 0..255 to
            logits, h and w as `preparation.size`.
        task: what their outputs mean.
        preparation: how images became arrays when the networks were trained.
        device: where the networks lie.
        colors: "#rrggbb" of each class for overlays, or empty for the default colours.
        scale: how large images are shown to networks that learned from resized images. "whole":
            the image is resized to the training size, and the probabilities back again.
            "native": it is resized by the factor of training and predicted in overlapping tiles.
            "auto": "native" for an image more than 1.5 times as high or wide as the largest
            labeled ones (a larger field of view at the same magnification), else "whole". Networks
            that learned from tiles always see tiles of the image's own pixels.
        judge: EvalNets on `device` that say how good predictions are; None: nobody does. They are
            asked about images that are shown whole only. A tile may hold nothing to find, where
            the score is 0 by definition, so the tiles' mean would tell how full an image is.
        calibration: from what they say to expected quality.

    Raises:
        UserError: the scale is unknown, or "whole" for networks that learned from tiles.
    """

    networks: tuple[nn.Module, ...]
    task: Task
    preparation: Preparation
    device: torch.device
    colors: tuple[str, ...] = ()
    scale: str = "auto"
    judge: Judge | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UserError(
                "there is no such scale", value=self.scale, remedy=f"Use {' or '.join(SCALES)}."
            )
        if self.scale == "whole" and self.preparation.fit == "tile":
            raise UserError(
                "the networks learned from tiles, so they cannot see an image as a whole",
                value=f"scale = {self.scale}",
                remedy="Use auto or native.",
            )

    @torch.inference_mode()
    def __call__(self, image: NDArray[Any]) -> Prediction:
        """Predict one image, [H,W] or [H,W,C] of the dtype of the training images' files.

        Raises:
            UserError: the image has another shape or dtype.
        """
        pixels = to_uint8(_with_channels(image, self.preparation), self.preparation)
        H, W = pixels.shape[:2]
        whole = self._whole(pixels)
        members = self._in_parts(pixels) if whole is None else self._all_networks(whole)[:, 0]
        quality, class_quality = self._quality(whole, members)
        mean, votes = _vote(members, self.task, (H, W))
        decided = self.task.discrete(mean, reserved=False)
        im = cut_region(inconsistency(votes)[1])[0, 0]
        im_share = int(im.sum()) / (H * W)
        planes = self.task.to_user(decided)[0].numpy()
        # the pixels of each class: any mask overlaps itself where it is
        pixels_of = self.task.overlaps(decided, decided)[0, :, 1].tolist()
        return Prediction(
            mask=planes if isinstance(self.task, Multilabel) else planes[0],
            im=im.numpy(),
            agreement=1 - im_share,
            im_share=im_share,
            confidence=confidence_of(mean, decided, self.task),
            areas={
                name: count / (H * W)
                for name, count in zip(self.task.classes, pixels_of, strict=True)
            },
            counts=dict(zip(self.task.counted, self.task.count(decided)[0].tolist(), strict=True)),
            quality=quality,
            class_quality=class_quality,
        )

    def _quality(
        self, whole: Bytes | None, members: Tensor
    ) -> tuple[float | None, dict[str, float]]:
        """Judge the probabilities [E,C,h,w] of an image that was shown as uint8 [1,h,w,C]."""
        if self.judge is None or whole is None:
            return None, {}
        shown = images_on(self.device, whole)
        answers = self.judge(shown, members[:, None].to(self.device)).cpu()
        score = self.task.pair_score(answers).numpy()
        expected = score if self.calibration is None else self.calibration(score)
        names = self.task.classes
        found = {}
        if self.task.detects:
            iou, detected = answers[0, :, -len(names) :].tolist()
            found = {n: q for n, q, d in zip(names, iou, detected, strict=True) if d >= DETECTED}
        return float(expected[0]), found

    def _whole(self, image: Bytes) -> Bytes | None:
        """Resize uint8 [H,W,C] to [1,h,w,C]; None where it is to be shown in parts."""
        if not self.shows_whole(image.shape):
            return None
        return resize_image(image, self.preparation.size)[None]

    def shows_whole(self, shape: Sequence[int]) -> bool:
        """Say whether networks see an image of this shape, height first, as a whole."""
        prep = self.preparation
        if prep.fit == "tile" or self.scale == "native":
            return False
        larger = max(side / most for side, most in zip(shape, prep.largest, strict=False))
        return self.scale == "whole" or larger <= LARGER

    def _in_parts(self, image: Bytes) -> Tensor:
        """Show uint8 [H,W,C] to all networks in tiles; float32 [E,C,h,w] on the CPU."""
        size = self.inner_size(image.shape)
        image = resize_image(image, size)
        bands = tiled(lambda start, stop: image[start:stop], size, self.preparation.size, self.show)
        return torch.from_numpy(np.concatenate(list(bands), axis=2))

    def inner_size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width at which networks see an image of this shape."""
        prep = self.preparation
        if self.shows_whole(shape):
            return prep.size
        if prep.fit == "tile":
            return shape[0], shape[1]
        h, w = (s * new / old for s, new, old in zip(shape, prep.size, prep.native, strict=False))
        return max(1, round(h)), max(1, round(w))

    def show(self, images: Bytes) -> NDArray[np.float32]:
        """Show uint8 [n,h,w,C] of the training size to all networks; float32 [E,n,C,h,w]."""
        return np.asarray(self._all_networks(images).numpy())

    def _all_networks(self, images: Bytes) -> Tensor:
        """Show uint8 [n,h,w,C] to all networks at once; float32 [E,n,C,h,w] on the CPU."""
        ((_, each),) = probabilities(
            self.networks, images, self.task, device=self.device, chunk=len(images)
        )
        return each.cpu()


def predictor_of(
    run: Run,
    *,
    chosen: Chosen | None = None,
    device: str = "auto",
    scale: str = "auto",
) -> Predictor:
    """Load an ensemble.

    Args:
        run: see :func:`imasks.runs.run.open_run`.
        chosen: what :func:`imasks.runs.choice.choose` found; by default the best of the run.
        device: "auto", "cpu" or "cuda"; not necessarily the one trained on.
        scale: see :class:`Predictor`.

    Raises:
        UserError: nothing is finished, an option is wrong, or a file of the run is damaged.
    """
    where = torch.device(find_device(device))
    chosen = chosen or choose(run)
    judge = calibration = None
    if chosen.quality is not None:
        judge = judge_of(chosen.quality, run.store, device=where)
        result = run.store.result(chosen.quality)
        calibration = Calibration.from_json(result["calibration"])
    return Predictor(
        networks=tuple(load_network(run.store.folder(job)).to(where) for job in chosen.fits),
        task=run.config.make_task(),
        preparation=run.config.preparation,
        device=where,
        colors=run.config.colors,
        scale=scale,
        judge=judge,
        calibration=calibration,
    )


def _with_channels(image: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
    """Bring an image to [H,W,C]."""
    pixels = image[..., None] if image.ndim == 2 else image
    wanted = preparation.channels
    allowed = (1, 3) if wanted in (1, 3) else (wanted,)
    if pixels.ndim != 3 or pixels.shape[2] not in allowed or not pixels.size:
        shapes = "[height, width] or [height, width, 1 or 3]"
        raise UserError(
            f"an image must have the shape {shapes if wanted in (1, 3) else f'[H, W, {wanted}]'}",
            value=image.shape,
            remedy="Give one image at a time, its channels last and without alpha.",
        )
    return pixels


def _vote(members: Tensor, task: Task, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize probabilities float32 [E,C,h,w] to the image's size and let each network decide.

    One network after another, so that only one lies in memory at the full size.

    Returns:
        The mean probability float32 [1,C,H,W], and the votes uint8 [E,1,P,H,W].
    """
    mean = torch.zeros((1, members.shape[1], *size))
    votes = []
    for member in members:
        own = _resize(member[None], size)
        votes.append(task.discrete(own, reserved=False))
        mean += own
    return mean.div_(len(members)), torch.stack(votes)


def _resize(probability: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [1,C,h,w] to [1,C,H,W], bilinear; when shrinking, every pixel counts."""
    if probability.shape[2:] == size:
        return probability
    return F.interpolate(probability, size, mode="bilinear", align_corners=False, antialias=True)


def confidence_of(mean: Tensor, decided: Tensor, task: Task) -> float:
    """Average the probability of what was decided over pixels and planes."""
    if isinstance(task, Multiclass):
        return float(mean.gather(1, decided.long()).mean())
    return float(torch.where(decided > 0, mean, 1 - mean).mean())
