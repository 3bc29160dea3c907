"""One generation as data: which pairs a candidate is trained on, and how wide it is.

The functions here turn an approach, a preset and a ladder into plain parameters; nothing is
computed. ``assemble`` is the way back, from parameters and arrays to training parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal, TypeVar

import numpy as np

from imasks.approaches.approach import Approach
from imasks.approaches.ladders import Ladder
from imasks.approaches.presets import Policy, Preset
from imasks.data.arrays import Arrays
from imasks.data.augment import Augmentation
from imasks.labelling.labellers import PseudoLabels
from imasks.labelling.rare import starved
from imasks.tasks import IGNORE
from imasks.training.batches import Part, materialise, mix

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a part of the training set comes from, and what happens to it.

    Args:
        pairs: "labeled", "full" (the unlabeled images with their true masks) or "pseudo".
        augmentation: drawn at every step, or once for each of ``frozen`` copies.
        frozen: 0: augment at every step; k: k augmented copies made before training.
        least: pairs are repeated until they make up at least this share of the training set.
        graded: each pair is shown 1 to 5 times, as it was judged.
    """

    pairs: Literal["labeled", "full", "pseudo"]
    augmentation: Augmentation
    frozen: int = 0
    least: float = 0.0
    graded: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Source:
        """Rebuild from what ``asdict`` gave."""
        return cls(
            pairs=values["pairs"],
            augmentation=Augmentation(**values["augmentation"]),
            frozen=values["frozen"],
            least=values["least"],
            graded=values["graded"],
        )


def sources(
    approach: Approach, preset: Preset, ladder: Ladder, generation: int
) -> tuple[Source, ...]:
    """List what a candidate of this generation is trained on."""
    if approach.labels is None:
        pairs: tuple[Literal["labeled", "full"], ...] = ("labeled",)
        if approach.truth == "all":
            pairs = ("labeled", "full")
        return tuple(s for p in pairs for s in _true(p, approach.labeled, preset, ladder))
    pseudo = list(_pseudo(approach, preset, ladder, generation))
    # Where augmentation costs nothing, noise on pseudo-labels alone would leave the labeled
    # pairs, the only true ones, to be learned by heart.
    labeled = "augmented" if preset.on_the_fly and approach.noise else approach.labeled
    true = _true("labeled", labeled, preset, ladder)
    return (*pseudo, *(replace(source, least=preset.least_labeled) for source in true))


def width(approach: Approach, ladder: Ladder, generation: int) -> float:
    """Width factor of the networks of a generation."""
    if generation == 0 or not approach.grow:
        return ladder.width
    return ladder.width * _at(ladder.growth, generation)


def assemble(
    wanted: Sequence[Source],
    *,
    labeled: Arrays,
    unlabeled: Arrays | None,
    pseudo: PseudoLabels | None,
    policy: Policy,
    seed: int,
    copies: np.ndarray | None = None,
) -> list[Part]:
    """Make training parts of arrays.

    Args:
        wanted: what :func:`sources` listed.
        labeled: images and true labels.
        unlabeled: images, with true labels if a source is "full".
        pseudo: labels of the unlabeled images if a source is "pseudo".
        policy: what happens at masked pixels.
        seed: of augmentations that are drawn once.
        copies: int64 [N], how often each pseudo-labeled pair of a graded source is shown.
    """
    parts = []
    for number, source in enumerate(wanted):
        if source.pairs == "labeled":
            part = _part(labeled)
        elif source.pairs == "full":
            assert unlabeled is not None
            part = _part(unlabeled)
        else:
            assert unlabeled is not None
            assert pseudo is not None
            part = pseudo_part(unlabeled.images, pseudo, policy, labeled=labeled.labels)
            if source.graded:
                assert copies is not None
                assert part.rows is not None
                part = replace(part, rows=part.rows.repeat(copies[part.rows]))
        if source.frozen:
            part = materialise(
                part, copies=source.frozen, augmentation=source.augmentation, seed=mix(seed, number)
            )
        else:
            part = replace(part, augmentation=source.augmentation)
        parts.append(part)
    return [
        _repeated(part, source.least, parts) for part, source in zip(parts, wanted, strict=True)
    ]


def pseudo_part(
    images: np.ndarray,
    pseudo: PseudoLabels,
    policy: Policy,
    *,
    labeled: np.ndarray | None = None,
) -> Part:
    """Make one part of unlabeled images uint8 [N, H, W, C] and their pseudo-labels.

    Args:
        images: may be memory-mapped, like all arrays here.
        pseudo: their labels.
        policy: what happens at masked pixels.
        labeled: the true labels uint8 [M, P, H, W]; where the policy asks what is rare.
    """
    # a multilabel plane that all networks agree on still teaches where another is unsure
    by_plane = policy.label != "blank" and not policy.morphology.active
    cut = pseudo.im if by_plane else pseudo.region[:, None]
    if policy.label == "soft" and pseudo.mean is not None:
        cut = np.broadcast_to(np.True_, cut.shape)
    order = None
    if policy.label == "rare" and pseudo.votes is not None:
        assert labeled is not None
        order = starved(labeled, pseudo)
    return Part(
        images=images,
        labels=pseudo.labels,
        rows=np.flatnonzero(pseudo.keep),
        black=pseudo.region if policy.input == "black" else None,
        cut=cut,
        cut_to=0 if policy.label == "blank" else IGNORE,
        soft=pseudo.mean,
        votes=None if order is None else pseudo.votes,
        order=order,
    )


def to_json(wanted: Sequence[Source]) -> list[dict[str, Any]]:
    """Return sources as plain dictionaries."""
    return [asdict(source) for source in wanted]


def _pseudo(
    approach: Approach, preset: Preset, ladder: Ladder, generation: int
) -> Iterator[Source]:
    noise = _at(ladder.noise, generation) if approach.noise else _plain(preset, ladder)
    graded = approach.copies is not None
    if preset.on_the_fly:
        noise = replace(noise, share=preset.share)
        yield Source(pairs="pseudo", augmentation=noise, graded=graded)
        plain = _plain(preset, ladder)
    else:
        frozen = 1 if approach.noise else 0
        yield Source(pairs="pseudo", augmentation=noise, frozen=frozen, graded=graded)
        plain = Augmentation()
    for _ in range(approach.plain_copies):
        yield Source(pairs="pseudo", augmentation=plain)


def _true(
    pairs: Literal["labeled", "full"], shown: str, preset: Preset, ladder: Ladder
) -> Iterator[Source]:
    if shown == "plain":
        yield Source(pairs=pairs, augmentation=_plain(preset, ladder))
    elif preset.on_the_fly:
        strong = _at(ladder.noise, preset.strength) if preset.strength else ladder.augmented
        yield Source(pairs=pairs, augmentation=replace(strong, share=preset.share))
    else:
        yield Source(pairs=pairs, augmentation=Augmentation())
        yield Source(pairs=pairs, augmentation=ladder.augmented, frozen=preset.copies)


def _plain(preset: Preset, ladder: Ladder) -> Augmentation:
    if not preset.on_the_fly or preset.plain == "nothing":
        return Augmentation()
    strong = ladder.augmented
    return Augmentation(flip=strong.flip, free_rotation=strong.free_rotation)


def repeats(own: int, others: int, least: float) -> int:
    """How often so many pairs are shown to be at least that share of the training set."""
    if not own or not others:
        return 1
    return max(1, ceil(least / (1 - least) * others / own))


def _repeated(part: Part, least: float, parts: Sequence[Part]) -> Part:
    others = sum(len(one) for one in parts) - len(part)
    if not least or not others or not len(part):
        return part
    rows = np.arange(len(part.images)) if part.rows is None else part.rows
    return replace(part, rows=np.tile(rows, repeats(len(part), others, least)))


def _part(arrays: Arrays) -> Part:
    assert arrays.labels is not None
    return Part(images=arrays.images, labels=arrays.labels)


def _at(schedule: Sequence[T], generation: int) -> T:
    return schedule[min(generation, len(schedule)) - 1]
