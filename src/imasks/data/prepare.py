"""From files to uint8 arrays of one size, in memory or mapped from the disk.

Shape letters: N images, P label planes (1 for binary and multiclass, one a class for multilabel),
H height, W width, C channels.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.card import IGNORED, Card, encode_mask, read_labels
from imasks.data.files import UnreadableFile, atomic, ordered, read_image, write_text
from imasks.data.folder import SPLITS, Dataset, Sample
from imasks.errors import UserError

STEP = 16  # the network halves an image four times
SMALLEST = 32
USUAL_SIDE = 256
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601
PERCENTILES = (0.1, 99.9)
MAX_PIXELS = 4_000_000  # looked at for the percentiles, over all images

Bytes = NDArray[np.uint8]

__all__ = [
    "Arrays",
    "Preparation",
    "encode_mask",
    "load_arrays",
    "plan_preparation",
    "prepare",
    "resize_image",
    "resize_mask",
    "to_uint8",
]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the images of one data set, and later ones for its models, become uint8 arrays.

    Args:
        size: (height, width) in pixels of the arrays, multiples of 16.
        channels: 1 or 3.
        fit: "resize" whole images or cut them into a "tile" grid.
        levels: for each channel the values that become 0 and 255; None for 8-bit images, which
            stay as they are.
        native: median (height, width) of the labeled images in their files.
        depth: dtype of the images in their files: "uint8", "uint16" or "float32".
    """

    size: tuple[int, int]
    channels: int
    fit: Literal["resize", "tile"]
    levels: tuple[tuple[float, float], ...] | None
    native: tuple[int, int]
    depth: str = "uint8"

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
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
            depth=values["depth"],
        )


class Arrays(NamedTuple):
    """One split: N names, images uint8 [N,H,W,C], labels uint8 [N,P,H,W] or None."""

    names: tuple[str, ...]
    images: Bytes
    labels: Bytes | None


def plan_preparation(
    dataset: Dataset, *, size: tuple[int, int] | None = None, longer_side: int | None = None
) -> Preparation:
    """Decide size, channels and grey levels from the card and the labeled images.

    Args:
        dataset: the data set; all its labeled images are read.
        size: (height, width), multiples of 16; goes before the card's.
        longer_side: in pixels, where neither `size` nor the card says a size; the shape follows
            the images' median. By default 256, or less where the images are smaller.

    Raises:
        UserError: a size is no multiple of 16, or the labeled images differ in depth.
    """
    card, labeled = dataset.card, dataset.splits["labeled"]
    if size is None:
        size = card.size
    if size is not None:
        _check_size(size)
    if longer_side is not None and longer_side < SMALLEST:
        remedy = f"Allowed: {SMALLEST} or more."
        raise UserError("the longer side is too short", value=longer_side, remedy=remedy)
    share = MAX_PIXELS // max(1, len(labeled))
    surveys = list(ordered(lambda sample: _survey(sample, share), labeled))
    native = (
        round(float(np.median([survey.shape[0] for survey in surveys]))),
        round(float(np.median([survey.shape[1] for survey in surveys]))),
    )
    channels = card.channels or (3 if any(survey.coloured for survey in surveys) else 1)
    fit: Literal["resize", "tile"] = "resize"
    large = min(native) >= 2 * USUAL_SIDE and size is None and longer_side is None
    if card.fit == "tile" or (card.fit == "auto" and large):
        fit = "tile"
    depth = _one_depth(labeled, surveys)
    return Preparation(
        size=size or _find_size(native, fit, longer_side),
        channels=channels,
        fit=fit,
        levels=None if depth == "uint8" else _levels(surveys, channels),
        native=native,
        depth=depth,
    )


def to_uint8(image: NDArray[Any], prep: Preparation) -> Bytes:
    """Bring one image to the preparation's channels and to 8 bits.

    Grey becomes colour by repetition, colour becomes grey by its luminance (Rec. 601).

    Args:
        image: [H,W,C] with C 1 or 3, of the dtype `prep.depth`.
        prep: the channels and levels wanted.

    Returns:
        uint8 [H,W,prep.channels].

    Raises:
        UserError: the image is of another depth than the labeled images.
    """
    if image.dtype != prep.depth:
        raise UserError(
            f"an image is {image.dtype} where the labeled images are {prep.depth}",
            remedy="Convert all images to one depth: the grey levels of two cannot be compared.",
        )
    image = _to_channels(image, prep.channels)
    if prep.levels is None:
        return _round(image)
    low, high = np.array(prep.levels).T
    return _round((image - low) / (high - low) * 255)


def resize_image(image: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize uint8 [H,W,C] to [h,w,C], bilinear and antialiased.

    Pillow's bilinear filter grows with the reduction, so that every source pixel counts.
    """
    if image.shape[:2] == size:
        return image
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    resized = np.array(picture.resize(size[::-1], Image.Resampling.BILINEAR))
    return resized[..., None] if grey else resized


def resize_mask(mask: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize a mask [...,H,W] to [...,h,w] by the nearest pixel; no new value arises."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size, mask.shape[-2:], strict=True)
    )
    return mask[..., rows[:, None], columns]


def prepare(
    dataset: Dataset,
    prep: Preparation,
    out: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write every split as arrays: SPLIT_images.npy, SPLIT_labels.npy and SPLIT_names.json.

    Images are decoded in threads and written one after another, so memory stays flat. Unlabeled
    labels are written only if every unlabeled image has masks. The names of tiles are NAME@y,x
    with the corner in pixels of the image.

    Args:
        dataset: what to read.
        prep: how.
        out: the folder for the arrays; made if need be.
        on_progress: is called with (images done, images in all).

    Returns:
        {"skipped": names of unlabeled images that cannot be read, "counts": {split: N}}.

    Raises:
        UserError: a file outside of unlabeled/images cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    total = sum(len(samples) for samples in dataset.splits.values())
    skipped: list[str] = []
    counts: dict[str, int] = {}
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, total)

    for split in SPLITS:
        counts[split], unread = _prepare_split(dataset, split, prep, out, advance)
        skipped += unread
    return {"skipped": skipped, "counts": counts}


def load_arrays(out: Path, split: str, *, truth: bool = True, ram_share: float = 0.25) -> Arrays:
    """Load one split as `prepare` wrote it.

    Args:
        out: the folder of the arrays.
        split: "labeled", "unlabeled", "val" or "test".
        truth: whether to load the labels, where there are any.
        ram_share: above this share of the machine's memory, the arrays stay on the disk and are
            mapped, copy-on-write: nothing that is done to them reaches the disk.

    Raises:
        UserError: the arrays are not there.
    """
    paths = {kind: out / f"{split}_{kind}.npy" for kind in ("images", "labels")}
    names = out / f"{split}_names.json"
    for path in (names, paths["images"]):
        if not path.is_file():
            raise UserError(f"{path} is missing", remedy="Prepare the data set again.")
    truth = truth and paths["labels"].is_file()
    size = sum(paths[kind].stat().st_size for kind in ("images", "labels")[: 1 + truth])
    in_memory = size < ram_share * _physical_memory()
    return Arrays(
        names=tuple(json.loads(names.read_text(encoding="utf-8"))),
        images=_load(paths["images"], in_memory),
        labels=_load(paths["labels"], in_memory) if truth else None,
    )


class _Part(NamedTuple):
    """A whole image or one tile of it: image [h,w,C], labels [P,h,w] or None."""

    name: str
    image: Bytes
    labels: Bytes | None


def _prepare_split(
    dataset: Dataset, split: str, prep: Preparation, out: Path, advance: Callable[[], None]
) -> tuple[int, list[str]]:
    """Write one split; give the number of images written and the names of those skipped."""
    card, samples = dataset.card, dataset.splits[split]
    unlabeled = split == "unlabeled"
    truth = not unlabeled or (bool(samples) and all(sample.masks for sample in samples))
    labels_path = out / f"{split}_labels.npy"
    if not truth:
        labels_path.unlink(missing_ok=True)
    P = len(card.classes) if card.task == "multilabel" else 1
    names: list[str] = []
    skipped: list[str] = []
    with ExitStack() as stack:
        images = stack.enter_context(
            _array_file(out / f"{split}_images.npy", (*prep.size, prep.channels))
        )
        labels = stack.enter_context(_array_file(labels_path, (P, *prep.size))) if truth else None
        read = partial(_read_sample, card=card, prep=prep, truth=truth, may_skip=unlabeled)
        for sample, parts in zip(samples, ordered(read, samples), strict=True):
            if parts is None:
                skipped.append(sample.name)
            for part in parts or ():
                names.append(part.name)
                images(part.image)
                if labels and part.labels is not None:
                    labels(part.labels)
            advance()
    write_text(out / f"{split}_names.json", json.dumps(names))
    return len(names), skipped


def _read_sample(
    sample: Sample, *, card: Card, prep: Preparation, truth: bool, may_skip: bool
) -> list[_Part] | None:
    """Decode one image and its masks; None for an unreadable image that may be skipped."""
    try:
        raw = read_image(sample.image)
    except UnreadableFile:
        if may_skip:
            return None
        raise
    image = to_uint8(raw, prep)
    labels = read_labels(sample.masks, card, image.shape[:2]) if truth else None
    if prep.fit == "tile":
        return list(_tiles(sample.name, image, labels, prep.size))
    small = None if labels is None else resize_mask(labels, prep.size)
    return [_Part(sample.name, resize_image(image, prep.size), small)]


def _tiles(name: str, image: Bytes, labels: Bytes | None, size: tuple[int, int]) -> Iterator[_Part]:
    """Cut the fewest tiles that cover an image, spread evenly; smaller images are padded first.

    The padding mirrors the image and is ignored in the labels.
    """
    h, w = size
    H, W = max(h, image.shape[0]), max(w, image.shape[1])
    pad = ((0, H - image.shape[0]), (0, W - image.shape[1]))
    image = np.pad(image, (*pad, (0, 0)), mode="reflect")
    if labels is not None:
        labels = np.pad(labels, ((0, 0), *pad), constant_values=IGNORED)
    for y in _starts(H, h):
        for x in _starts(W, w):
            part = None if labels is None else labels[:, y : y + h, x : x + w]
            yield _Part(f"{name}@{y},{x}", image[y : y + h, x : x + w], part)


def _starts(length: int, tile: int) -> list[int]:
    count = math.ceil(length / tile)
    return [round(index * (length - tile) / max(1, count - 1)) for index in range(count)]


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[Bytes], None]]:
    """Give a function that appends one uint8 array of `shape` to a .npy file [N,*shape].

    N is known only at the end. NumPy pads the header so that the first axis may grow in place.
    """
    count = 0
    with atomic(path) as temp, temp.open("wb") as file:

        def header() -> int:
            file.seek(0)
            values = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, values)
            return file.tell()

        def append(array: Bytes) -> None:
            nonlocal count
            if array.shape != shape or array.dtype != np.uint8:
                raise ValueError(f"{array.dtype} {array.shape} in an array of uint8 {shape}")
            file.write(np.ascontiguousarray(array).data)
            count += 1

        start = header()
        yield append
        if header() != start:
            raise RuntimeError("this NumPy cannot let the first axis of a .npy file grow")


def _load(path: Path, in_memory: bool) -> Bytes:
    array: Bytes = np.load(path, mmap_mode=None if in_memory else "c", allow_pickle=False)
    return array


def _physical_memory() -> int:
    """Bytes of memory of this machine; 8 GiB where the system does not tell (Windows)."""
    if not hasattr(os, "sysconf"):
        return 8 * 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Survey(NamedTuple):
    """What planning needs of one image: its shape, dtype, whether it has colour, pixels [n,C]."""

    shape: tuple[int, int]
    depth: str
    coloured: bool
    pixels: NDArray[Any]


def _survey(sample: Sample, share: int) -> _Survey:
    image = read_image(sample.image)
    H, W, C = image.shape
    pixels = image.reshape(-1, C)
    depth = str(image.dtype)
    if depth == "uint8":
        pixels = pixels[:0]  # needs no levels
    elif len(pixels) > share:
        chosen = np.random.default_rng(0).integers(0, len(pixels), max(1, share))
        pixels = pixels[chosen]
    return _Survey((H, W), depth, bool((image != image[..., :1]).any()), pixels)


def _one_depth(samples: Sequence[Sample], surveys: Sequence[_Survey]) -> str:
    depths = {survey.depth: sample for sample, survey in zip(samples, surveys, strict=True)}
    if len(depths) > 1:
        raise UserError(
            "the labeled images differ in depth",
            value=", ".join(f"{depth}: {sample.image}" for depth, sample in depths.items()),
            remedy="Convert all images to one depth: the grey levels of two cannot be compared.",
        )
    return next(iter(depths))


def _levels(surveys: Sequence[_Survey], channels: int) -> tuple[tuple[float, float], ...]:
    pixels = np.concatenate([_to_channels(survey.pixels, channels) for survey in surveys])
    lows, highs = np.percentile(pixels, PERCENTILES, axis=0)
    return tuple(
        (float(low), float(high) if high > low else float(low) + 1)
        for low, high in zip(lows, highs, strict=True)
    )


def _check_size(size: tuple[int, int]) -> None:
    if any(side % STEP or side < SMALLEST for side in size):
        near = [_to_step(side) for side in size]
        raise UserError(
            f"the size must be multiples of {STEP}, at least {SMALLEST}",
            value=list(size),
            remedy=f"The nearest is {near}, height and width.",
        )


def _find_size(
    native: tuple[int, int], fit: Literal["resize", "tile"], longer_side: int | None
) -> tuple[int, int]:
    if fit == "tile":  # native pixels: no larger than needed to hold a small image whole
        side = _to_step(longer_side or USUAL_SIDE)
        height, width = (min(side, max(SMALLEST, STEP * math.ceil(n / STEP))) for n in native)
        return height, width
    scale = (longer_side or min(USUAL_SIDE, max(native))) / max(native)
    return _to_step(native[0] * scale), _to_step(native[1] * scale)


def _to_step(side: float) -> int:
    return max(SMALLEST, STEP * math.floor(side / STEP + 0.5))


def _to_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """Bring [...,C] to the channels wanted; luminance is float32."""
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return (image.astype(np.float32) @ np.array(LUMINANCE, np.float32))[..., None]


def _round(values: NDArray[Any]) -> Bytes:
    if values.dtype == np.uint8:
        return values
    rounded: Bytes = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return rounded
