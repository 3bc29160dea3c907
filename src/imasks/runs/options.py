"""What a user may say about a run. Imports nothing heavy: the command line's help is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from imasks.errors import UserError


def _option(default: Any, text: str, **limits: float) -> Any:
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may say about a run; None leaves the preset's or the data set's own choice.

    The command line takes its options and their help from these fields.

    Raises:
        UserError: a value has another type than its field, or lies outside the field's range.
            What must be looked up (names, sizes, devices) is checked by
            :func:`imasks.runs.configure.configure`.
    """

    preset: str = _option("default", "default: found by measuring; paper: as published.")
    quick: bool = _option(False, "A first look: fewer steps and networks, smaller images.")
    size: tuple[int, int] | None = _option(
        None, "Train at HEIGHT WIDTH pixels, multiples of 16 (32 for most encoders)."
    )
    longer_side: int | None = _option(
        None, "Train at this longer side in pixels; the shape follows the images.", least=1
    )
    crops: int | None = _option(
        None,
        "Of images cut into tiles: at most so many tiles of each to learn from, drawn by "
        "--crop-seed; all by default.",
        least=1,
    )
    crop_seed: int = _option(0, "Of the choice of crops.", least=0)
    width: float | None = _option(None, "Width of the U-Nets of the start, e.g. 0.5.", least=1 / 16)
    encoder: str | None = _option(
        None,
        "Encoders in place of the U-Net: of segmentation_models.pytorch (resnet18), of timm with "
        "tu- before the name, vision transformers of timm without; several with commas, candidates "
        "take turns; unet is the U-Net. Need the extra 'encoders'.",
    )
    decoder: str | None = _option(
        None, "What follows encoders that are no vision transformers: unet, fpn, ...; or one each."
    )
    pretrained: bool | None = _option(
        None, "Begin with pretrained weights; by default where there are any for an encoder."
    )
    encoder_weights: str | None = _option(
        None, "Begin with the weights in this safetensors file, or one for each encoder."
    )
    encoder_rate: float | None = _option(
        None,
        "Learning rate of the encoder in those of the rest; 0 freezes it. By default 1, where it "
        "is pretrained 0.1, and 0 for vision transformers.",
        least=0,
    )
    network: str | None = _option(
        None, "A network of your own: module:function, see the documentation; several with commas."
    )
    ladder: str | None = _option(
        None,
        "Whose noise and growth to use: isic2018, hela, suim or cityscapes; by default those that "
        "the data set names, or the task's.",
    )
    models: int | None = _option(None, "Networks that vote (the paper's n).", least=1)
    views: int | None = _option(None, "Views of an image in the input ensemble.", least=1)
    generations: int | None = _option(None, "Generations after the start.", least=0)
    candidates: int | None = _option(None, "Networks trained per generation.", least=1)
    warm_start: bool | None = _option(
        None,
        "Networks of a generation go on from those of the generation before, if all are built "
        "alike, or begin anew.",
    )
    start_candidates: int | None = _option(
        None, "Networks trained for a supervised start.", least=1
    )
    steps: int | None = _option(None, "Optimiser steps of every network.", least=1)
    epochs: int | None = _option(
        None,
        "Passes over the training set instead of a number of steps: small sets get few steps, as "
        "published. EvalNets keep their steps.",
        least=1,
    )
    budget: str | None = _option(
        None,
        "'network': every network gets the same steps; 'equal-steps': every approach does, all "
        "generations counted, EvalNets not.",
    )
    sampling: str | None = _option(
        None,
        "'plain': every pair once an epoch; 'balanced': images with rare classes as often as "
        "others.",
    )
    class_weights: str | None = _option(
        None, "In the loss: 'none', or 'balanced': pixels of rare classes count more."
    )
    batch: int | None = _option(None, "Image-mask pairs per step; EvalNets keep theirs.", least=1)
    learning_rate: float | None = _option(None, "Peak learning rate.", least=0)
    keep: str | None = _option(
        None,
        "The weights that are kept: of the 'last' epoch, or of the best by validation 'score'.",
    )
    im_input: str | None = _option(
        None, "Pixels under the inconsistency mask: show them 'black' or 'keep' them."
    )
    im_label: str | None = _option(
        None,
        "Labels under it: 'blank' as published; 'ignore' them in the loss; learn the networks' "
        "'mean' probability, or the decision it leads to, 'weigh'ed by how sure it is; 'rare': "
        "ignore all but classes that would get lost (multiclass, and the default there); 'soft': "
        "the mean everywhere.",
    )
    im_erode: int | None = _option(
        None,
        "Make inconsistency masks smaller: side of the square, odd, in pixels; 0: off.",
        least=0,
    )
    im_dilate: int | None = _option(None, "Then make them larger, likewise.", least=0)
    thresholds: str | None = _option(
        None,
        "Of EvalNet's scores: 'auto' finds them without true masks, 'ladder' takes those published "
        "for the data set that --ladder names.",
    )
    graders: int | None = _option(None, "EvalNets trained for a start.", least=1)
    quality: bool | None = _option(
        None, "Train EvalNets for approaches without, so that predictions come with a quality."
    )
    filter: bool | None = _option(None, "Leave out images whose networks disagree too much.")
    review: str | None = _option(
        None,
        "A folder of `imasks review`: accepted images are learned from as labeled ones, rejected "
        "ones are left out.",
    )
    device: str = _option("auto", "auto, cpu or cuda.")
    precision: str = _option("auto", "auto (measured at the start), float32 or bfloat16.")
    workers: int | None = _option(None, "Processes that train side by side.", least=1)
    threads: int | None = _option(
        None,
        "Threads of each process on the CPU; by default processes share the cores, and "
        "OMP_NUM_THREADS is the most.",
        least=1,
    )
    tensorboard: bool = _option(False, "Show trainings to TensorBoard, in RUN/tensorboard.")
    mlflow: bool = _option(False, "Show trainings to MLflow, wherever it is set up to keep them.")

    def __post_init__(self) -> None:
        hints = get_type_hints(Options)
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                limits = {k: v for k, v in one.metadata.items() if k != "help"}
                object.__setattr__(
                    self, one.name, check_value(one.name, value, hints[one.name], **limits)
                )

    def asked(self) -> dict[str, Any]:
        """Return what differs from the defaults, by name."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def check_value(name: str, value: object, wanted: Any, *, least: float = -math.inf) -> Any:
    """Return an option's value in its proper type, a whole number for a float as a float.

    Args:
        name: of the option, for the error.
        value: as given.
        wanted: bool, int, float, str or a pair of int; each also as `| None`.
        least: the smallest number allowed.

    Raises:
        UserError: the value is of another type or out of range.
    """
    kind = next(k for k in _KINDS if wanted in (k, k | None))
    if kind is float and type(value) is int:
        value = float(value)
    if kind == tuple[int, int]:
        value = tuple(value) if isinstance(value, list) else value
        fits = isinstance(value, tuple) and [type(part) for part in value] == [int, int]
    else:
        fits = type(value) is kind  # not isinstance: a bool is no number here
    if fits and kind in (int, float):
        number: Any = value
        fits = math.isfinite(number) and number >= least
    if not fits:
        limit = f" of at least {least:g}" if least > -math.inf else ""
        raise UserError(
            f"{name} must be {_KINDS[kind]}{limit}",
            value=repr(value),
            remedy=f"Change {name}, or leave it out.",
        )
    return value


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple[int, int]: "two whole numbers (height, width)",
}
