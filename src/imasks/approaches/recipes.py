"""The approaches, as data: a new one is one entry of APPROACHES."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches

from imasks.approaches.approach import Approach
from imasks.approaches.ladders import STRENGTHS
from imasks.approaches.variants import split
from imasks.errors import UserError

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


def find_approach(name: str) -> Approach:
    """Look an approach up, whatever its capitals; settings of its own may follow its name.

    Raises:
        UserError: there is none of that name; it lists those there are. Or a setting is wrong.
    """
    name, changes = split(name)
    by_lower = {known.lower(): approach for known, approach in APPROACHES.items()}
    found = by_lower.get(name.lower())
    if found is None:
        near = get_close_matches(name.lower(), by_lower, n=1)
        hint = f"Did you mean {by_lower[near[0]].name}? " if near else ""
        raise UserError(
            "there is no such approach", value=name, remedy=f"{hint}Known: {', '.join(APPROACHES)}."
        )
    if not changes:
        return found
    said = " ".join(f"{key}={value}" for key, value in changes)
    return replace(
        found, name=f"{found.name} {said}", summary=f"{found.summary} ({said})", changes=changes
    )
