"""How all approaches are trained, so that they meet the same conditions, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from imasks.errors import UserError
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import Extra
from imasks.training.recipe import Recipe

InputPolicy = Literal["black", "keep"]
Sampling = Literal["plain", "balanced"]
ClassWeights = Literal["none", "balanced"]
Budget = Literal["network", "equal-steps"]
Thresholds = Literal["ladder", "auto"]
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
        warm_start: networks of a generation begin with the weights of the generation before, the
            best with the best's and so on, if they are built alike (where networks grow they are
            not); otherwise with random ones.
        alternate: of the consistency loss: labeled and unlabeled batches in turn; otherwise in
            passes, as published.
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
        meant_for: shorter side in pixels of the images that the ladder's blur and noise are meant
            for; smaller ones get less, see :meth:`imasks.approaches.ladders.Ladder.for_pixels`.
            None: the same at any size.
        share: of images whose brightness, sharpness or noise is touched (only if ``on_the_fly``).
        sampling: "plain": every pair once an epoch; "balanced": pairs with rare classes more often,
            see :func:`imasks.training.balance.with_weights`.
        class_weights: "balanced": rare classes count more in the loss, see
            :func:`imasks.training.balance.loss_weights`.
    """

    recipe: Recipe = field(default_factory=Recipe)
    start_candidates: int = 10
    candidates: int = 5
    models: int = 2
    generations: int = 5
    budget: Budget = "network"
    views: int = 3
    warm_start: bool = False
    alternate: bool = False
    graders: int = 5
    grader: Recipe = field(default_factory=lambda: Recipe(min_steps=1))
    grader_width: float = 2.0
    loops: tuple[int, int] = (10, 3)
    thresholds: Thresholds = "ladder"
    quality: bool = False
    policy: Policy = field(default_factory=Policy)
    on_the_fly: bool = False
    copies: int = 9
    plain: Literal["nothing", "position"] = "nothing"
    least_labeled: float = 0.0
    strength: int = 0
    meant_for: int | None = None
    share: float = 1.0
    sampling: Sampling = "plain"
    class_weights: ClassWeights = "none"

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
            steps=4000,
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
        warm_start=True,
        alternate=True,
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
        policy=Policy(input="keep", label="rare", filter=False),  # "ignore" if not multiclass
        on_the_fly=True,
        plain="position",
        least_labeled=0.3,
        strength=3,
        meant_for=256,
        share=0.5,
    ),
}
