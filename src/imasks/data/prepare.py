"""How images become uint8 arrays of one size: the decisions, and the conversion of one image.

Shape letters: H height, W width, C channels.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.card import CARD_NAME, Card
from imasks.data.files import ONE_DEPTH, Bytes, UnreadableFile, ordered, read_image
from imasks.data.folder import Dataset, Sample
from imasks.data.tiff import Pages
from imasks.errors import UserError

Value = TypeVar("Value", bound=np.generic)

STEP = 16  # the U-Net halves an image four times; other networks have steps of their own
SMALLEST = 32
USUAL_SIDE = 256
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601
PERCENTILES = (0.1, 99.9)
ONE_KIND = "Give all images the same channels; only grey and RGB can be turned into one another."
AT_ONCE = 250_000  # pixels brought to 8 bits at once
MAX_PIXELS = 4_000_000  # looked at for the percentiles, over all images


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the images of one data set, and later ones for its models, become uint8 arrays.

    Args:
        size: (height, width) in pixels of the arrays, multiples of the networks' step.
        channels: of the arrays.
        fit: "resize" whole images or cut them into a "tile" grid.
        levels: for each channel the values that become 0 and 255; None for 8-bit images, which
            stay as they are.
        native: median (height, width) of the labeled images in their files.
        largest: the largest height and the largest width of the labeled images in their files.
        depth: dtype of the images in their files: "uint8", "uint16" or "float32".
        pages: what the pages of TIFF stacks are, see :class:`imasks.data.card.Card`.
        crops: fit "tile" only: the most tiles that are taken of each labeled and each unlabeled
            image, chosen by chance; None: all. Images of val and test are always covered.
        crop_seed: of that choice.
    """

    size: tuple[int, int]
    channels: int
    fit: Literal["resize", "tile"]
    levels: tuple[tuple[float, float], ...] | None
    native: tuple[int, int]
    largest: tuple[int, int]
    depth: str = "uint8"
    pages: Pages = "images"
    crops: int | None = None
    crop_seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings.

        What came later is left out where it says nothing, as the keys of jobs depend on it.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.pages == "images":
            del plain["pages"]
        if self.crops is None:
            del plain["crops"], plain["crop_seed"]
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preparation":
        """Rebuild what `to_json` gave."""
        levels = values["levels"]
        return cls(
            size=(values["size"][0], values["size"][1]),
            channels=values["channels"],
            fit=values["fit"],
            levels=None if levels is None else tuple((low, high) for low, high in levels),
            native=(values["native"][0], values["native"][1]),
            largest=(values["largest"][0], values["largest"][1]),
            depth=values["depth"],
            **{key: values[key] for key in ("pages", "crops", "crop_seed") if key in values},
        )


def plan_preparation(
    dataset: Dataset,
    *,
    size: tuple[int, int] | None = None,
    longer_side: int | None = None,
    at_most: int | None = None,
    crops: int | None = None,
    crop_seed: int = 0,
    step: int = STEP,
) -> Preparation:
    """Decide size, channels and grey levels from the card and the labeled images.

    Args:
        dataset: the data set; all its labeled images are read.
        size: (height, width), multiples of `step`; goes before the card's.
        longer_side: in pixels, instead of `size`, and also before the card's; the shape follows
            the images' median.
        at_most: in pixels, where nobody says a size: whole images are shown, and their longer
            side becomes this one, or less where the images are smaller. By default 256, and much
            larger images are cut into tiles.
        crops: the most tiles that are taken of an image to learn from; None: all.
        crop_seed: of their choice.
        step: of what the networks need heights and widths to be multiples.

    Raises:
        UserError: a size is no multiple of the step, there is also a longer side, crops are wanted
            where there are no tiles, or the labeled images differ in depth or channels.
    """
    card, labeled = dataset.card, dataset.splits["labeled"]
    _check_asked(size, longer_side)
    share = MAX_PIXELS // max(1, len(labeled))
    surveys = list(ordered(lambda sample: _survey(sample, share, card.pages), labeled))
    shapes = [survey.shape for survey in surveys]
    native, fit, size = decide_size(
        card, shapes, size=size, longer_side=longer_side, at_most=at_most, step=step
    )
    largest = (
        max(survey.shape[0] for survey in surveys),
        max(survey.shape[1] for survey in surveys),
    )
    channels = card.channels or _find_channels(labeled, surveys)
    if crops is not None and fit != "tile":
        raise UserError(
            "crops are taken of images that are cut into tiles, and these are resized as a whole",
            value=f"crops = {crops}",
            remedy=f'Write fit = "tile" into {CARD_NAME}, or leave --crops out.',
        )
    depth = _one_depth(labeled, surveys)
    return Preparation(
        size=size,
        channels=channels,
        fit=fit,
        levels=None if depth == "uint8" else _levels(labeled, surveys, channels),
        native=native,
        largest=largest,
        depth=depth,
        pages=card.pages,
        crops=crops,
        crop_seed=0 if crops is None else crop_seed,
    )


def decide_size(
    card: Card,
    shapes: Sequence[tuple[int, int]],
    *,
    size: tuple[int, int] | None = None,
    longer_side: int | None = None,
    at_most: int | None = None,
    step: int = STEP,
) -> tuple[tuple[int, int], Literal["resize", "tile"], tuple[int, int]]:
    """Decide at which size networks see images.

    Args:
        card: may say a size, and whether images are resized or cut.
        shapes: height and width of every labeled image; at least one.
        size: see :func:`plan_preparation`, as for all others.
        longer_side: likewise.
        at_most: likewise.
        step: likewise.

    Returns:
        The median shape, whether whole images are resized or cut into tiles, and the size.

    Raises:
        UserError: the size is no multiple of the step.
    """
    if size is None and longer_side is None:
        size = card.size
    if size is not None:
        _check_size(size, step)
    height, width = np.median(np.array(shapes), axis=0).tolist()
    native = round(height), round(width)
    open_size = size is None and longer_side is None and at_most is None
    large = min(native) >= 2 * USUAL_SIDE
    fit: Literal["resize", "tile"] = "resize"
    if card.fit == "tile" or (card.fit == "auto" and large and open_size):
        fit = "tile"
    return native, fit, size or _find_size(native, fit, longer_side, at_most or USUAL_SIDE, step)


def to_uint8(image: NDArray[Any], prep: Preparation, *, source: Path = Path("image")) -> Bytes:
    """Bring one image to the preparation's channels and to 8 bits.

    Grey becomes colour by repetition, colour becomes grey by its luminance (Rec. 601); any other
    number of channels must be the one wanted.

    Args:
        image: [H,W,C], of the dtype `prep.depth`.
        prep: the channels and levels wanted.
        source: what an error names as the file.

    Returns:
        uint8 [H,W,prep.channels].

    Raises:
        UnreadableFile: the image is of another depth than the labeled images, or has channels that
            cannot be brought to theirs.
    """
    if image.dtype != prep.depth:
        reason = f"is {image.dtype} where the labeled images are {prep.depth}"
        raise UnreadableFile(source, reason, remedy=ONE_DEPTH)
    out = np.empty((*image.shape[:2], prep.channels), np.uint8)
    rows = max(1, AT_ONCE // max(1, image.shape[1]))
    for start in range(0, len(image), rows):  # numbers between take eight times the memory
        part = _to_channels(image[start : start + rows], prep.channels, source)
        if prep.levels is not None:
            low, high = np.array(prep.levels).T
            part = (part - low) / (high - low) * 255
        out[start : start + rows] = _round(part)
    return out


def resize_image(image: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize uint8 [H,W,C] to [h,w,C], bilinear and antialiased.

    Pillow's bilinear filter grows with the reduction, so that every source pixel counts.
    """
    if image.shape[:2] == size:
        return image
    return resize_part(image, size, (0, 0, image.shape[1], image.shape[0]))


def resize_part(
    image: Bytes, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Bytes:
    """Resize what lies in a box (left, top, right, bottom) of uint8 [H,W,C] to [h,w,C].

    Pixels beside the box count as far as the filter reaches.
    """
    C = image.shape[2]
    planes = [image] if C == 3 else [image[..., c] for c in range(C)]
    found = [
        np.array(
            Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
        ).reshape(*size, -1)
        for plane in planes
    ]
    return found[0] if len(found) == 1 else np.concatenate(found, axis=2)


def resize_mask(mask: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Resize a mask [...,H,W] to [...,h,w] by the nearest pixel; no new value arises."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size, mask.shape[-2:], strict=True)
    )
    return mask[..., rows[:, None], columns]


class _Survey(NamedTuple):
    """What planning needs of one image: shape, dtype, channels (1 if three are alike), pixels."""

    shape: tuple[int, int]
    depth: str
    channels: int
    pixels: NDArray[Any]


def _survey(sample: Sample, share: int, pages: Pages) -> _Survey:
    image = read_image(sample.image, page=sample.page, pages=pages)
    H, W, C = image.shape
    pixels = image.reshape(-1, C)
    depth = str(image.dtype)
    if depth == "uint8":
        pixels = pixels[:0]  # needs no levels
    elif len(pixels) > share:
        chosen = np.random.default_rng(0).integers(0, len(pixels), max(1, share))
        pixels = pixels[chosen]
    channels = 1 if C == 3 and (image == image[..., :1]).all() else C
    return _Survey((H, W), depth, channels, pixels)


def _find_channels(samples: Sequence[Sample], surveys: Sequence[_Survey]) -> int:
    found = {survey.channels: sample for sample, survey in zip(samples, surveys, strict=True)}
    if len(found) > 1 and not set(found) <= {1, 3}:
        raise UserError(
            "the labeled images differ in their channels",
            value=", ".join(f"{count}: {sample.image}" for count, sample in found.items()),
            remedy=ONE_KIND,
        )
    return max(found)


def _one_depth(samples: Sequence[Sample], surveys: Sequence[_Survey]) -> str:
    depths = {survey.depth: sample for sample, survey in zip(samples, surveys, strict=True)}
    if len(depths) > 1:
        raise UserError(
            "the labeled images differ in depth",
            value=", ".join(f"{depth}: {sample.image}" for depth, sample in depths.items()),
            remedy=ONE_DEPTH,
        )
    return next(iter(depths))


def _levels(
    samples: Sequence[Sample], surveys: Sequence[_Survey], channels: int
) -> tuple[tuple[float, float], ...]:
    pixels = np.concatenate(
        [
            _to_channels(survey.pixels, channels, sample.image)
            for sample, survey in zip(samples, surveys, strict=True)
        ]
    )
    lows, highs = np.percentile(pixels, PERCENTILES, axis=0)
    return tuple(
        (float(low), float(high) if high > low else float(low) + 1)
        for low, high in zip(lows, highs, strict=True)
    )


def _check_asked(size: tuple[int, int] | None, longer_side: int | None) -> None:
    if size is not None and longer_side is not None:
        value = f"{list(size)} and {longer_side}"
        raise UserError("both a size and a longer side are given", value=value, remedy="Give one.")
    if longer_side is not None and longer_side < SMALLEST:
        remedy = f"Allowed: {SMALLEST} or more."
        raise UserError("the longer side is too short", value=longer_side, remedy=remedy)


def _check_size(size: tuple[int, int], step: int) -> None:
    if any(side % step or side < SMALLEST for side in size):
        near = [_to_step(side, step) for side in size]
        raise UserError(
            f"the size must be multiples of {step}, at least {SMALLEST}",
            value=list(size),
            remedy=f"The nearest is {near}, height and width.",
        )


def _find_size(
    native: tuple[int, int],
    fit: Literal["resize", "tile"],
    longer_side: int | None,
    at_most: int,
    step: int,
) -> tuple[int, int]:
    if fit == "tile":  # native pixels: no larger than needed to hold a small image whole
        side = _to_step(longer_side or at_most, step)
        height, width = (min(side, _to_step(step * math.ceil(n / step), step)) for n in native)
        return height, width
    scale = (longer_side or min(at_most, max(native))) / max(native)
    return _to_step(native[0] * scale, step), _to_step(native[1] * scale, step)


def _to_step(side: float, step: int) -> int:
    smallest = step * math.ceil(SMALLEST / step)
    return max(smallest, step * math.floor(side / step + 0.5))


def _to_channels(image: NDArray[Any], channels: int, source: Path) -> NDArray[Any]:
    """Bring [...,C] to the channels wanted; luminance is float32."""
    if image.shape[-1] == channels:
        return image
    if not {channels, image.shape[-1]} <= {1, 3}:
        reason = f"has {image.shape[-1]} channels where {channels} are wanted"
        raise UnreadableFile(source, reason, remedy=ONE_KIND)
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return (image.astype(np.float32) @ np.array(LUMINANCE, np.float32))[..., None]


def _round(values: NDArray[Any]) -> Bytes:
    if values.dtype == np.uint8:
        return values
    rounded: Bytes = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return rounded
