"""The approaches, the presets and the noise schedules, as data.

A new approach is one entry of APPROACHES; a preset says how all of them are trained, so that they
meet the same conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from imasks.approaches.approach import Approach
from imasks.data.augment import Augmentation
from imasks.errors import UserError
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import Extra
from imasks.training.recipe import Recipe

STRENGTHS: tuple[Literal["low", "mid", "high"], ...] = ("low", "mid", "high")
"""What the entries of :attr:`Ladder.views` are called."""

APPROACHES: Mapping[str, Approach] = {
    approach.name: approach
    for approach in (
        Approach(name="LDT", summary="supervised, the labeled images only"),
        Approach(
            name="ALDT",
            summary="supervised, the labeled images with augmentation",
            labeled="augmented",
        ),
        Approach(
            name="FDT",
            summary="supervised, all true masks (needs unlabeled/masks)",
            truth="all",
        ),
        Approach(
            name="AFDT",
            summary="supervised, all true masks with augmentation (needs unlabeled/masks)",
            truth="all",
            labeled="augmented",
        ),
        *(
            Approach(
                name=f"Consistency Loss {strength}",
                summary=f"the best LDT network, trained on to answer two views alike ({strength})",
                start="LDT",
                consistency=strength,
            )
            for strength in STRENGTHS
        ),
        Approach(
            name="Model Ensemble",
            summary="pseudo-labels of several networks together",
            start="LDT",
            labels="ensemble",
        ),
        Approach(
            name="Input Ensemble",
            summary="pseudo-labels of the best network on several views of each image",
            start="LDT",
            labels="views",
        ),
        Approach(
            name="Noisy Student",
            summary="pseudo-labels of the best network, noise, growing networks",
            start="LDT",
            labels="top-1",
            noise=True,
            grow=True,
        ),
        Approach(
            name="EvalNet",
            summary="of all candidates' masks the one that EvalNets find best, if good enough",
            start="LDT",
            labels="best",
            teachers=("LDT", "ALDT"),
        ),
        Approach(
            name="IM",
            summary="pseudo-labels where the networks agree",
            start="LDT",
            labels="inconsistency",
        ),
        Approach(
            name="IM+",
            summary="IM with noise and growing networks",
            start="LDT",
            labels="inconsistency",
            noise=True,
            grow=True,
        ),
        Approach(
            name="IM++",
            summary="IM+ that shows pairs more often that EvalNets find good",
            start="LDT",
            labels="inconsistency",
            noise=True,
            grow=True,
            copies="evalnet",
            teachers=("LDT",),
        ),
        Approach(
            name="AIM+",
            summary="IM+ from the augmented start ALDT",
            start="ALDT",
            labeled="augmented",
            labels="inconsistency",
            noise=True,
            grow=True,
            plain_copies=1,
        ),
        Approach(
            name="AIM++",
            summary="IM++ from the augmented start ALDT",
            start="ALDT",
            labeled="augmented",
            labels="inconsistency",
            noise=True,
            grow=True,
            plain_copies=1,
            copies="evalnet",
            teachers=("ALDT",),
        ),
        Approach(
            name="GT-IM++",
            summary="IM++ with pairs judged by true masks, an oracle (needs unlabeled/masks)",
            start="LDT",
            labels="inconsistency",
            noise=True,
            grow=True,
            copies="truth",
        ),
    )
}


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

LADDERS: Mapping[str, Ladder] = {  # METHOD 11
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


InputPolicy = Literal["black", "keep"]
LabelPolicy = Literal["blank", "ignore", "mean", "soft", "weigh", "rare"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What happens to an image whose pseudo-label has an inconsistency mask.

    Args:
        input: show masked pixels "black", or "keep" them.
        label: "blank": background, or the reserved class of a multiclass task, as published;
            "ignore": masked pixels take no part in the loss;
            "mean": they learn the voting networks' mean probability;
            "soft": so do all pixels, masked or not;
            "weigh": masked pixels learn what the mean probability decides, the less the nearer the
            decision (:meth:`imasks.tasks.Task.sureness`);
            "rare": as "ignore", but they learn a starved class that a network votes for, see
            :func:`imasks.labelling.rare.starved` (multiclass only).
            Where labels come without such a mask (by one network, an ensemble, views or EvalNets)
            they are learned as they are, whatever is said here.
        filter: keep only images of which the agreed foreground is larger than the mask (binary),
            or in which all networks see the same classes (multiclass). None: as published, for
            binary tasks only.
        morphology: changes the mask before it is cut out.
    """

    input: InputPolicy = "black"
    label: LabelPolicy = "blank"
    filter: bool | None = None
    morphology: Morphology = field(default_factory=Morphology)

    @property
    def extra(self) -> Extra | None:
        """What labellers must keep beside labels and masks."""
        if self.label in ("mean", "soft", "weigh"):
            return "mean"
        return "votes" if self.label == "rare" else None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How all approaches are trained.

    Args:
        recipe: how one candidate is trained.
        start_candidates: networks trained for a supervised start.
        candidates: networks trained per generation.
        models: n, the networks that vote.
        generations: G.
        budget: "network": every network is trained for the recipe's length, so that an approach
            with generations takes longer; "equal-steps": one without gets the steps of all
            generations of the others for its only network.
        views: n of the input ensemble.
        graders: EvalNets trained for a start.
        grader: how one of them is trained.
        grader_width: of EvalNets, in widths of the start.
        loops: masks drawn for each labeled image, and for each validation image, to teach them.
        thresholds: of their scores: the ladder's, or found from validation images and the scores
            themselves.
        quality: teach EvalNets also where the approach does without, so that predictions come
            with their expected quality.
        policy: what happens at masked pixels.
        on_the_fly: draw augmentation anew at every step; otherwise once, before training, and
            "augmented" labeled pairs then are the pair itself and ``copies`` augmented ones.
        copies: see there.
        plain: what even "plain" pairs undergo at every step (only if ``on_the_fly``).
        least_labeled: share of true pairs below which they are repeated beside pseudo-labeled ones.
        strength: show "augmented" pairs changed as strongly as pseudo-labeled ones in this
            generation; 0: by the ladder's own, strongest, setting.
        share: of images whose brightness, sharpness or noise is touched (only if ``on_the_fly``).
    """

    recipe: Recipe = field(default_factory=Recipe)
    start_candidates: int = 10
    candidates: int = 5
    models: int = 2
    generations: int = 5
    budget: Literal["network", "equal-steps"] = "network"
    views: int = 3
    graders: int = 5
    grader: Recipe = field(default_factory=lambda: Recipe(min_steps=1))
    grader_width: float = 2.0
    loops: tuple[int, int] = (10, 3)
    thresholds: Literal["ladder", "auto"] = "ladder"
    quality: bool = False
    policy: Policy = field(default_factory=Policy)
    on_the_fly: bool = False
    copies: int = 9
    plain: Literal["nothing", "position"] = "nothing"
    least_labeled: float = 0.0
    strength: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start_candidates", "candidates", "models", "views", "graders"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} must be at least 1", value=getattr(self, name), remedy="Raise it."
                )
        fewest = min(self.start_candidates, self.candidates)
        if self.models > fewest:
            raise UserError(
                "more networks are to vote than are trained",
                value=f"models = {self.models}, candidates = {fewest}",
                remedy="Lower models, or raise candidates and start_candidates.",
            )


PRESETS: Mapping[str, Preset] = {
    "paper": Preset(),
    "default": Preset(
        recipe=Recipe(
            steps=2000,
            batch=8,
            learning_rate=0.006,
            schedule="cosine",
            weight_decay=0.01,
            norm_momentum=0.1,
            loss="cross-entropy",
            ema=0.99,
            evaluations=20,
            select="last",
        ),
        start_candidates=3,
        candidates=3,
        generations=2,
        graders=2,
        grader=Recipe(
            steps=1000,
            batch=32,
            learning_rate=0.003,
            schedule="cosine",
            weight_decay=0.01,
            norm_momentum=0.1,
            ema=0.99,
            evaluations=10,
        ),
        grader_width=1.0,
        thresholds="auto",
        policy=Policy(input="keep", label="ignore", filter=False),
        on_the_fly=True,
        plain="position",
        least_labeled=0.3,
        strength=3,
        share=0.5,
    ),
}

DEFAULT_LADDER = {"binary": "isic2018", "multiclass": "suim", "multilabel": "hela"}


def find_approach(name: str) -> Approach:
    """Look an approach up, whatever its capitals.

    Raises:
        UserError: there is none of that name; it lists those there are.
    """
    by_lower = {known.lower(): approach for known, approach in APPROACHES.items()}
    found = by_lower.get(name.strip().lower())
    if found is None:
        near = get_close_matches(name.lower(), by_lower, n=1)
        hint = f"Did you mean {by_lower[near[0]].name}? " if near else ""
        raise UserError(
            "there is no such approach", value=name, remedy=f"{hint}Known: {', '.join(APPROACHES)}."
        )
    return found
