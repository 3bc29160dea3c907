"""SUIM: underwater scenes in colour-coded masks. Source: METHOD 12."""

from __future__ import annotations

import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from imasks.data.card import CUT, Card, shorten
from imasks.data.files import Bytes, UnreadableFile, read_image, write_png
from imasks.data.folder import nfc, visible
from imasks.data.prepare import resize_image, resize_mask
from imasks.prepare.folder import Record, Records, Work, write_folder
from imasks.prepare.pixels import fingerprint, grey, place, to_8_bit
from imasks.prepare.registry import About, Request
from imasks.prepare.source import (
    Pair,
    draw,
    matching,
    need_number,
    need_partners,
    need_tree,
    wrong_source,
)

SIDE, LARGEST = 256, 512  # of a crop as it is written, and as it is cut
CROPS = 2
VOID = 255
UNCLEAR = (64, 192)  # channels from here to below there are nearer to the cut than to 0 or 255
VAL_SHARE = 0.1
# the publishers' names of the folders of one class each, in the order of the ids
FOLDERS = ("BW", "HD", "PF", "WR", "RO", "RI", "FV", "SR")
NUMBERS = {"train_val": 1525, "TEST": 110}

ABOUT = About(
    title="SUIM",
    task="multiclass",
    classes=("water", "diver", "plants", "wreck", "robot", "reef", "fish", "sea floor"),
    colors=(
        *("#000000", "#0000ff", "#00ff00", "#00ffff"),
        *("#ff0000", "#ff00ff", "#ffff00", "#ffffff"),
    ),
    where="irvlab.cs.umn.edu/resources/suim-dataset, the archives train_val and TEST; free, "
    "without registration",
    licence="MIT, as the publishers' repository states it",
    citation="Islam et al., Semantic Segmentation of Underwater Imagery: Dataset and Benchmark, "
    "IROS 2020, arXiv 2004.01241",
    tree="""\
train_val/
  images/
    d_r_1_.jpg ... (1525)
  masks/
    d_r_1_.bmp ... (1525)   colours; or a folder a class:
    HD/
      d_r_1_.bmp ...        BW HD PF WR RO RI FV SR
TEST/
  images/
    d_r_47_.jpg ... (110)
  masks/
    d_r_47_.bmp ... (110)   or a folder a class""",
)


def prepare(request: Request) -> tuple[str, ...]:
    """Make a data folder of two random square crops an image, drawn by a seed.

    A tenth of train_val becomes val/, and of the rest a share is labeled. `whole/` holds the test
    images as they are, for an evaluation of whole images.
    """
    options = request.options

    def finish(records: Records) -> tuple[Card, list[str]]:
        card = Card(
            name=ABOUT.title,
            task="multiclass",
            classes=ABOUT.classes,
            size=(SIDE, SIDE),
            channels=3,
            ignore=VOID,
            free_rotation=False,
            colors=ABOUT.colors,
            ladder="suim",
        )
        doubles = _doubles(records)
        if options["drop_doubles"]:
            for key in doubles:
                if key.startswith("test/"):
                    records[key]["files"] = []
        return card, _told(records, doubles, dropped=options["drop_doubles"])

    work = Work(
        name="suim",
        source=request.source,
        settings=dict(options),
        pairs=_pairs(request),
        make=partial(_make, seed=options["seed"], keep_unclear=options["keep_unclear"]),
        finish=finish,
    )
    return write_folder(request.out, work, request.on_progress)


def decode_colors(mask: Bytes, *, keep_unclear: bool = False) -> tuple[Bytes, int]:
    """Turn colours uint8 [H,W,3] into class ids uint8 [H,W].

    Each channel is cut at 128. Colours with a channel from 64 to 191 are unclear and become VOID,
    unless they are to be kept.

    Returns:
        The ids, and how many pixels are unclear.
    """
    red, green, blue = ((mask[..., channel] >= CUT).astype(np.uint8) for channel in range(3))
    ids: Bytes = 4 * red + 2 * green + blue
    unclear = ((mask >= UNCLEAR[0]) & (mask < UNCLEAR[1])).any(2)
    if not keep_unclear:
        ids[unclear] = VOID
    return ids, int(unclear.sum())


def crop_boxes(height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw crops as (x, y, side), side 0 standing for the whole image; equal ones once.

    A side is uniform from 256 to below 512 or the longer side; where the image is smaller than
    that, it is taken as a whole.
    """
    boxes = []
    for _ in range(CROPS):
        most = min(LARGEST, max(height, width))
        side = int(rng.integers(SIDE, most)) if most > SIDE else SIDE
        if side > min(height, width):
            boxes.append((0, 0, 0))
        else:
            x, y = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
            boxes.append((int(x), int(y), side))
    return list(dict.fromkeys(boxes))


def _pairs(request: Request) -> list[Pair]:
    source, options = request.source, request.options
    need_tree(source, ABOUT, [f"{part}/{kind}" for part in NUMBERS for kind in ("images", "masks")])
    missing: list[str] = []
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, dict[str, tuple[Path, ...]]] = {}
    for part, number in NUMBERS.items():
        images[part] = matching(source / part / "images", r"(.+)\.(?i:jpe?g)")
        masks[part] = _masks(source / part / "masks")
        missing += need_partners(images[part], masks[part], where=part)
        missing += need_number(
            len(images[part]), number, what=f"images in {part}/images", subset=options["subset"]
        )
    if missing:
        raise wrong_source(source, ABOUT, missing)
    val = draw(images["train_val"], VAL_SHARE, options["seed"])
    rest = images["train_val"].keys() - val
    labeled = draw(rest, options["labeled_share"], options["seed"]) if rest else frozenset()
    pairs = []
    for part, found in images.items():
        for name in sorted(found):
            goes = "test"
            if part == "train_val":
                goes = "val" if name in val else "labeled" if name in labeled else "unlabeled"
            pairs.append(Pair(split=goes, name=name, image=found[name], masks=masks[part][name]))
    return pairs


def _masks(folder: Path) -> dict[str, tuple[Path, ...]]:
    """List the colour masks of a folder, and masks of single classes where there is none."""
    by_class: defaultdict[str, list[Path]] = defaultdict(list)
    for path in visible(folder):
        if path.is_dir() and path.name in FOLDERS:
            for name, mask in matching(path, r"(.+)\.(?i:bmp)").items():
                by_class[name].append(mask)
    found = {nfc(name): tuple(paths) for name, paths in by_class.items()}
    return found | {name: (path,) for name, path in matching(folder, r"(.+)\.(?i:bmp)").items()}


def _make(pair: Pair, folder: Path, *, seed: int, keep_unclear: bool) -> Record:
    image = to_8_bit(read_image(pair.image), pair.image)
    ids, record = _ids(pair, keep_unclear=keep_unclear)
    height, width = image.shape[:2]
    if ids.shape != (height, width):
        if ids.shape[0] < height or ids.shape[1] != width:
            raise UnreadableFile(
                pair.masks[0],
                "does not fit its image",
                value=f"mask {ids.shape}, image {(height, width)}; height first",
                remedy="Download both again, or take both out.",
            )
        ids = ids[:height]  # some masks go on below their image
        record["taller"] = 1
    rng = np.random.default_rng([seed, *pair.name.encode(), pair.split == "test"])
    files = []
    for number, (x, y, side) in enumerate(crop_boxes(height, width, rng)):
        window = (slice(y, y + side), slice(x, x + side)) if side else (slice(None), slice(None))
        for kind, pixels in (
            ("images", resize_image(image[window], (SIDE, SIDE))),
            ("masks", resize_mask(ids[window], (SIDE, SIDE))),
        ):
            files.append(f"{pair.split}/{kind}/{pair.name}{number}.png")
            write_png(place(folder, files[-1]), pixels)
    if pair.split == "test":
        whole = f"whole/images/{pair.name}.jpg"
        shutil.copyfile(pair.image, place(folder, whole))
        files += [whole, f"whole/masks/{pair.name}.png"]
        write_png(place(folder, files[-1]), ids)
    return {**record, "files": files, "pixels": fingerprint(image)}


def _ids(pair: Pair, *, keep_unclear: bool) -> tuple[Bytes, Record]:
    """Read class ids uint8 [H,W] from a mask in colours, or from one mask a class."""
    if pair.masks[0].parent.name not in FOLDERS:
        colors = to_8_bit(read_image(pair.masks[0]), pair.masks[0])
        if colors.shape[2] == 1:
            colors = np.repeat(colors, 3, axis=2)  # all black, or black and white
        ids, unclear = decode_colors(colors, keep_unclear=keep_unclear)
        return ids, {"unclear": unclear}
    planes = [grey(to_8_bit(read_image(path), path)) >= CUT for path in pair.masks]
    for path, plane in zip(pair.masks, planes, strict=True):
        if plane.shape != planes[0].shape:
            raise UnreadableFile(path, "differs in size from the masks of other classes")
    claims = np.sum(planes, axis=0)
    classes = np.array([FOLDERS.index(path.parent.name) for path in pair.masks], np.uint8)
    found: Bytes = np.where(claims == 1, classes[np.argmax(planes, axis=0)], np.uint8(VOID))
    return found, {"unclaimed": int((claims == 0).sum()), "contested": int((claims > 1).sum())}


def _doubles(records: Records) -> list[str]:
    """Name the images that stand in training and in test, by their pixels."""
    by_pixels: defaultdict[str, list[str]] = defaultdict(list)
    for key, record in records.items():
        by_pixels[record["pixels"]].append(key)
    return [
        key
        for keys in by_pixels.values()
        if len({one.startswith("test/") for one in keys}) == 2
        for key in keys
    ]


def _told(records: Records, doubles: list[str], *, dropped: bool) -> list[str]:
    def total(what: str) -> int:
        return sum(record.get(what, 0) for record in records.values())

    told = []
    if taller := total("taller"):
        told.append(f"{taller} masks are taller than their images: what is below was cut off.")
    if unclear := total("unclear"):
        where = sum(bool(record.get("unclear")) for record in records.values())
        told.append(f"{unclear} pixels in {where} masks have colours of no class.")
    if unclaimed := total("unclaimed"):
        told.append(f"{unclaimed} pixels belong to no class that has a folder: ignored.")
    if contested := total("contested"):
        told.append(f"{contested} pixels belong to several classes: ignored.")
    if doubles:
        end = "scores look better than they are; --drop-doubles leaves them out of test."
        end = "left out of test." if dropped else end
        told.append(f"Images that stand in training and test, {shorten(doubles)}: {end}")
    return told
