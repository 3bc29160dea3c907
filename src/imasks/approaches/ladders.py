"""Noise, widths and thresholds for four kinds of images, as data. Source: METHOD 11."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from imasks.data.augment import Augmentation

STRENGTHS: tuple[Literal["low", "mid", "high"], ...] = ("low", "mid", "high")
"""What the entries of :attr:`Ladder.views` are called."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How strongly images of one kind may be changed, and how wide their networks grow.

    Args:
        augmented: for labeled pairs where an approach augments them.
        noise: S_1, S_2, ... for pseudo-labeled pairs; later generations stay at the last.
        views: low, mid and high: how far two views of an unlabeled image may differ that are to be
            answered alike. Position is changed where the published code does so: for binary tasks.
        width: a0, the width of supervised starts.
        growth: A_g / a0 for g = 1, 2, ...; later generations stay at the last.
        thresholds: lo and hi of the scores by which pairs are shown 1 to 5 times. They are about
            the scores of ALDT and FDT on that very data set.
        keep_at: which of them the EvalNet approach asks of a mask.
    """

    augmented: Augmentation
    noise: tuple[Augmentation, ...]
    views: tuple[Augmentation, ...]
    width: float
    growth: tuple[float, ...] = (1.0, 1.25, 1.5, 1.75, 2.0)
    thresholds: tuple[float, float]
    keep_at: Literal["lo", "hi"] = "hi"

    def for_pixels(self, side: int, *, meant: int) -> Ladder:
        """Return the ladder for images of another shorter side than it is ``meant`` for.

        What blurs large images a little wipes out what small ones show, and noise that averages out
        over an object of many pixels does not over one of few. On smaller images both are weaker
        by the ratio of the sides, down to none; brightness and contrast stay.
        """
        ratio = min(1.0, side / meant)

        def weaker(how: Augmentation) -> Augmentation:
            blur, noise = (round(ratio * value) for value in (how.max_blur, how.max_noise))
            return replace(how, max_blur=blur, max_noise=noise)

        return replace(
            self,
            augmented=weaker(self.augmented),
            noise=tuple(map(weaker, self.noise)),
            views=tuple(map(weaker, self.views)),
        )


def _ladder(
    *,
    free_rotation: bool,
    augmented: tuple[float, float, int, int],
    contrast: tuple[float, ...],
    brightness: tuple[float, ...],
    blur: tuple[int, ...],
    noise: tuple[int, ...],
    **rest: object,
) -> Ladder:
    position = Augmentation(flip=True, free_rotation=free_rotation)
    steps = tuple(
        replace(position, contrast=a, brightness=b, max_blur=r, max_noise=n)
        for a, b, r, n in zip(contrast, brightness, blur, noise, strict=True)
    )
    a, b, r, n = augmented
    strong = replace(position, contrast=a, brightness=b, max_blur=r, max_noise=n)
    return Ladder(augmented=strong, noise=steps, **rest)  # type: ignore[arg-type]


def _views(
    *, blur: tuple[int, ...], noise: tuple[int, ...], contrast: tuple[float, ...]
) -> tuple[Augmentation, ...]:
    # the published ranges of offset and noise are the same
    return tuple(
        Augmentation(contrast=a, brightness=n, max_blur=r, max_noise=n)
        for r, n, a in zip(blur, noise, contrast, strict=True)
    )


_FIVES = (5, 10, 15, 20, 25)
_THREES = (3, 6, 9, 12, 15)
_FAR = _views(blur=(1, 2, 3), noise=(10, 17, 25), contrast=(0.15, 0.3, 0.5))

LADDERS: Mapping[str, Ladder] = {
    "isic2018": _ladder(
        free_rotation=True,
        augmented=(0.5, 25, 3, 25),
        contrast=(0.1, 0.2, 0.3, 0.4, 0.5),
        brightness=_FIVES,
        blur=(0, 1, 1, 2, 3),
        noise=_FIVES,
        views=tuple(replace(view, flip=True, free_rotation=True) for view in _FAR),
        width=0.5,
        growth=(1.0, 1.5, 2.0, 2.5, 3.0),
        thresholds=(0.72, 0.75),
    ),
    "hela": _ladder(
        free_rotation=True,
        augmented=(0.3, 15, 3, 25),
        contrast=(0.1, 0.1, 0.2, 0.2, 0.3),
        brightness=_THREES,
        blur=(0, 1, 1, 2, 3),
        noise=_FIVES,
        views=_FAR,
        width=1.0,
        thresholds=(0.59, 0.62),
        keep_at="lo",
    ),
    "suim": _ladder(
        free_rotation=False,
        augmented=(0.5, 25, 3, 25),
        contrast=(0.1, 0.2, 0.3, 0.4, 0.5),
        brightness=_FIVES,
        blur=(0, 1, 1, 2, 3),
        noise=_FIVES,
        views=_FAR,
        width=1.0,
        thresholds=(0.43, 0.51),
    ),
    "cityscapes": _ladder(
        free_rotation=False,
        augmented=(0.4, 15, 1, 15),
        contrast=(0.05, 0.1, 0.2, 0.3, 0.4),
        brightness=_THREES,
        blur=(0, 0, 0, 0, 1),
        noise=_THREES,
        views=_views(blur=(0, 0, 1), noise=(3, 9, 15), contrast=(0.05, 0.2, 0.4)),
        width=1.0,
        thresholds=(0.372, 0.453),
    ),
}

DEFAULT_LADDER = {"binary": "isic2018", "multiclass": "suim", "multilabel": "hela"}
