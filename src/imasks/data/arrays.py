"""The arrays of a prepared data set: written once, then loaded or mapped from the disk.

Shape letters: N rows, each a whole image or a tile of one, M images, P label planes (1 for binary
and multiclass, one a class for multilabel), H height, W width, C channels.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card, read_labels
from imasks.data.files import Bytes, UnreadableFile, atomic, ordered, write_text
from imasks.data.folder import SPLITS, Dataset, Sample
from imasks.data.prepare import Preparation, resize_image, resize_mask, to_uint8
from imasks.data.resources import fits_in_memory, memory
from imasks.data.source import open_image
from imasks.encoding import IGNORE
from imasks.errors import UserError


class Arrays(NamedTuple):
    """One split.

    Attributes:
        names: of the M images.
        images: uint8 [N,H,W,C].
        labels: uint8 [N,P,H,W], or None.
        source: int64 [N], ascending: the index of the image that each row shows, all or a tile of
            it; None: row n is image n.
    """

    names: tuple[str, ...]
    images: Bytes
    labels: Bytes | None
    source: NDArray[np.int64] | None = None


def prepare(
    dataset: Dataset,
    prep: Preparation,
    out: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write every split as SPLIT_images.npy, SPLIT_labels.npy, _source.npy and _names.json.

    Images are decoded in threads and written one after another, so memory stays flat. Unlabeled
    labels, which are a yardstick only, are written if every unlabeled image has masks and all of
    them can be used. Tiles of one image overlap; in val and test a pixel's label stands in the
    first tile that shows it and is ignored in the others, so that each is scored once.

    Args:
        dataset: what to read.
        prep: how.
        out: the folder for the arrays; made if need be.
        on_progress: is called with (images done, images in all).

    Returns:
        {"skipped": [file and reason, ...], "counts": {split: N}}; unlabeled images are skipped that
        cannot be read or are of another depth than the labeled ones, and the masks of unlabeled
        images, all of them, if one cannot be used.

    Raises:
        UserError: a file outside of unlabeled/ cannot be used, or no image inside.
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
        ram_share: the arrays of all splits are held in memory if that takes less than this share
            of it even when one process per core does so. Otherwise they stay on the disk and are
            mapped, and processes share what the system keeps of them in memory. A limit set on
            this process's group (a container's) counts as the memory there is. Mapped arrays are
            copy-on-write: nothing that is done to them reaches the disk.

    Raises:
        UserError: the arrays are not there.
    """
    paths = {kind: out / f"{split}_{kind}.npy" for kind in ("images", "labels")}
    names, source = out / f"{split}_names.json", out / f"{split}_source.npy"
    for path in (names, source, paths["images"]):
        if not path.is_file():
            raise UserError(f"{path} is missing", remedy="Prepare the data set again.")
    truth = truth and paths["labels"].is_file()
    in_memory = fits_in_memory(sum(path.stat().st_size for path in out.glob("*.npy")), ram_share)
    return Arrays(
        names=tuple(json.loads(names.read_text(encoding="utf-8"))),
        images=_load(paths["images"], in_memory),
        labels=_load(paths["labels"], in_memory) if truth else None,
        source=np.load(source, allow_pickle=False),
    )


class _Part(NamedTuple):
    """A whole image or one tile of it: image [h,w,C], labels [P,h,w] or None."""

    image: Bytes
    labels: Bytes | None


class _Read(NamedTuple):
    """The parts of one image; `bad_mask` says why they lack the labels that they should have."""

    name: str
    parts: list[_Part]
    bad_mask: UnreadableFile | None


def _prepare_split(
    dataset: Dataset, split: str, prep: Preparation, out: Path, advance: Callable[[], None]
) -> tuple[int, list[str]]:
    """Write one split; give the number of rows written, and what was skipped and why."""
    card, samples = dataset.card, dataset.splits[split]
    unlabeled = split == "unlabeled"
    truth = not unlabeled or (bool(samples) and all(sample.masks for sample in samples))
    labels_path = out / f"{split}_labels.npy"
    if not truth:
        labels_path.unlink(missing_ok=True)
    P = len(card.classes) if card.task == "multilabel" else 1
    names: list[str] = []
    source: list[int] = []
    skipped: list[str] = []
    bad_masks: list[str] = []
    with ExitStack() as stack:
        images = stack.enter_context(
            _array_file(out / f"{split}_images.npy", (*prep.size, prep.channels))
        )
        labels = stack.enter_context(_array_file(labels_path, (P, *prep.size))) if truth else None
        read = partial(_read_sample, card=card, prep=prep, split=split, truth=truth)
        for found in ordered(read, samples, at_once=_at_once(prep)):
            if isinstance(found, UnreadableFile):
                skipped.append(str(found))
            else:
                source += [len(names)] * len(found.parts)
                names.append(found.name)
                for part in found.parts:
                    images(part.image)
                    if labels and part.labels is not None:
                        labels(part.labels)
                if found.bad_mask is not None:
                    bad_masks.append(str(found.bad_mask))
            advance()
    if skipped and not names:
        raise UserError(
            f"none of the {len(skipped)} images in {split}/ can be used",
            value=skipped[0],
            remedy="Replace these images, or take all of them out.",
        )
    if bad_masks:
        labels_path.unlink()
        skipped.append(
            f"all masks in {split}/masks, which are a yardstick only: {len(bad_masks)} cannot be "
            f"used. {bad_masks[0]}"
        )
    with atomic(out / f"{split}_source.npy") as temp, temp.open("wb") as file:
        np.save(file, np.array(source, np.int64))
    write_text(out / f"{split}_names.json", json.dumps(names))
    return len(source), skipped


def _read_sample(
    sample: Sample, *, card: Card, prep: Preparation, split: str, truth: bool
) -> _Read | UnreadableFile:
    """Decode one image and its masks; give the error of an unusable image that may be skipped."""
    may_skip = split == "unlabeled"
    try:
        with open_image(sample.image, page=sample.page, pages=card.pages) as source:
            H, W, _ = source.shape
            labels, bad_mask = (
                _read_truth(sample, card, (H, W), may_skip) if truth else (None, None)
            )

            def rows(start: int, stop: int) -> Bytes:
                return to_uint8(source.rows(start, stop), prep, source=sample.image)

            if prep.fit == "tile":
                once = split in ("val", "test")
                name = f"{split}/{sample.name}"
                chosen = None if once else partial(_chosen, prep=prep, name=name)
                parts = list(_tiles(rows, (H, W), labels, prep.size, once=once, chosen=chosen))
            else:
                small = None if labels is None else resize_mask(labels, prep.size)
                parts = [_Part(resize_image(rows(0, H), prep.size), small)]
    except UnreadableFile as error:
        if may_skip:
            return error
        raise
    return _Read(sample.name, parts, bad_mask)


def _read_truth(
    sample: Sample, card: Card, shape: tuple[int, int], may_skip: bool
) -> tuple[Bytes | None, UnreadableFile | None]:
    """Read an image's labels; or None and why not, where they are a yardstick only."""
    try:
        return read_labels(sample.masks, card, shape, page=sample.mask_page), None
    except UnreadableFile as error:
        if not may_skip:
            raise
        return None, error


def _tiles(
    rows: Callable[[int, int], Bytes],
    shape: tuple[int, int],
    labels: Bytes | None,
    size: tuple[int, int],
    *,
    once: bool,
    chosen: Callable[[int], set[int]] | None = None,
) -> Iterator[_Part]:
    """Cut the fewest tiles that cover an image, spread evenly; smaller images are padded first.

    The padding mirrors the image and is ignored in the labels, as is, for `once`, what an earlier
    tile has shown. `chosen` says of how many tiles which are given; None: all. `rows` gives rows
    start to stop of the image, whose height and width are `shape`.
    """
    h, w = size
    H, W = max(h, shape[0]), max(w, shape[1])
    pad = ((0, H - shape[0]), (0, W - shape[1]))
    if labels is not None:
        labels = np.pad(labels, ((0, 0), *pad), constant_values=IGNORE)
    tops, lefts = _starts(H, h), _starts(W, w)
    count = len(tops) * len(lefts)
    wanted = set(range(count)) if chosen is None else chosen(count)
    for place, y in enumerate(tops):
        first = place * len(lefts)
        if wanted.isdisjoint(range(first, first + len(lefts))):
            continue
        strip = np.pad(rows(y, min(y + h, shape[0])), (*pad, (0, 0)), mode="reflect")
        for number, x in enumerate(lefts, start=first):
            if number not in wanted:
                continue
            part = None
            if labels is not None:
                seen = labels[:, y : y + h, x : x + w]
                part = seen.copy()
                if once:
                    seen[:] = IGNORE
            yield _Part(strip[:, x : x + w].copy(), part)


def _at_once(prep: Preparation) -> int:
    """Say how many images as large as the largest labeled one fit in a quarter of memory."""
    size = math.prod(prep.largest) * prep.channels * (np.dtype(prep.depth).itemsize + 1)
    return max(1, memory() // (4 * size))


def _chosen(count: int, *, prep: Preparation, name: str) -> set[int]:
    """Choose tiles of an image by the recorded seed and its name."""
    if prep.crops is None or prep.crops >= count:
        return set(range(count))
    rng = np.random.default_rng([prep.crop_seed, *name.encode()])
    return set(rng.choice(count, prep.crops, replace=False).tolist())


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
