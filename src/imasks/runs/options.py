"""What a user may say about a run. Imports nothing heavy: the command line's help is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may say about a run; None leaves the preset's or the data set's own choice.

    The command line takes its options and their help from these fields.
    """

    preset: str = _option("default", "default: found by measuring; paper: as published.")
    quick: bool = _option(False, "A first look: fewer steps and networks, smaller images.")
    size: tuple[int, int] | None = _option(None, "Train at HEIGHT WIDTH pixels, multiples of 16.")
    longer_side: int | None = _option(
        None, "Train at this longer side in pixels; the shape follows the images."
    )
    width: float | None = _option(None, "Width of the networks of the start, e.g. 0.5.")
    ladder: str | None = _option(
        None, "Whose noise and growth to use: isic2018, hela, suim or cityscapes."
    )
    models: int | None = _option(None, "Networks that vote (the paper's n).")
    generations: int | None = _option(None, "Generations after the start.")
    candidates: int | None = _option(None, "Networks trained per generation.")
    start_candidates: int | None = _option(None, "Networks trained for a supervised start.")
    steps: int | None = _option(None, "Optimiser steps of every network.")
    batch: int | None = _option(None, "Image-mask pairs per step.")
    im_input: str | None = _option(
        None, "Pixels under the inconsistency mask: show them 'black' or 'keep' them."
    )
    im_label: str | None = _option(
        None, "Labels under it: 'blank' as published, or 'ignore' them in the loss."
    )
    filter: bool | None = _option(None, "Leave out images whose networks disagree too much.")
    device: str = _option("auto", "auto, cpu, cuda or mps.")
    precision: str = _option("auto", "auto (measured at the start), float32 or bfloat16.")
    workers: int | None = _option(None, "Processes that train side by side.")
