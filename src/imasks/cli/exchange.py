"""Commands that exchange data with annotation tools and other trainers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from imasks.cli.options import (
    Approach,
    Device,
    Empty,
    MovedData,
    RunFolder,
    Scale,
    Seed,
    Task,
    check_task,
    signed,
    split_names,
)
from imasks.cli.screen import console, progress, quote, say, tell_skipped

# The formats of exchange.registry that can be read, and what SOURCE is for each; that module is
# heavy, and help is not.
READ = {
    "folders": (
        "Two folders, images and masks of class ids.",
        "a folder with images/ and masks/",
    ),
    "table": (
        "A CSV of image and mask paths.",
        "a CSV with the columns image and mask, or image and one mask/CLASS a class; perhaps "
        "split; paths are as seen from its folder",
    ),
    "palette": (
        "Colour-coded masks, with the palette given or found.",
        "a folder with images/ and masks/",
    ),
    "instances": (
        "One mask an object, as in the 2018 Data Science Bowl.",
        "a folder with ID/images/ID.png and ID/masks/*.png for every image",
    ),
    "labelme": (
        "Labelme's JSON, one file an image.",
        "the folder of the JSON files, the images beside them",
    ),
    "coco": (
        "COCO JSON: polygons and runs.",
        "the JSON file; the images lie in images/ beside it, or give --images",
    ),
    "cvat": (
        "CVAT's export: images 1.1 (XML) or segmentation mask 1.1.",
        "the folder of the unpacked export, images in images/ or JPEGImages/ in it, or give "
        "--images",
    ),
    "labelstudio": (
        "Label Studio's JSON: brush masks and polygons.",
        "the JSON file; the images lie in its folder, or give --images",
    ),
}
WRITTEN = "masks, coco, cvat, labelstudio, nnunet or napari"

Images = Annotated[
    Path | None, typer.Option(help="The folder of the images, where the format does not say.")
]


def add_readers(app: typer.Typer) -> None:
    """Add a command for every form of data that can be read."""
    for name, (summary, source) in READ.items():
        about = f"{summary} Yours, as a data folder.\n\nSOURCE: {source}."
        app.command(name, help=about, short_help=f"{summary} Yours, as a data folder.")(
            _reader(name)
        )


def _reader(name: str) -> Callable[..., None]:
    def command(**given: Any) -> None:
        prepare_own(name, **given)

    signature = inspect.signature(prepare_own, eval_str=True)
    return signed(command, [one for key, one in signature.parameters.items() if key != "format"])


def prepare_own(
    format: str,
    source: Annotated[Path, typer.Argument(help="The file or folder to read.")],
    out: Annotated[Path, typer.Argument(help="The data folder to make.")],
    images: Images = None,
    masks: Annotated[Path | None, typer.Option(help="The folder of the masks, likewise.")] = None,
    task: Task = None,
    classes: Annotated[
        str | None, typer.Option(help="The classes wanted, with commas; all if not given.")
    ] = None,
    palette: Annotated[
        Path | None, typer.Option(help="A CSV of name, red, green, blue, or a label map.")
    ] = None,
    crowd: Annotated[
        str, typer.Option(help="What COCO marks as a crowd: of its 'class', or to 'ignore'.")
    ] = "class",
    empty: Empty = False,
    val_share: Annotated[
        float, typer.Option(help="Share of the annotated images put into val/.")
    ] = 0.0,
    test_share: Annotated[float, typer.Option(help="Likewise, test/.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    splits: Annotated[
        Path | None, typer.Option(help="A CSV of name and split, where they are given.")
    ] = None,
) -> None:
    """Make a data folder of your own data in another form.

    Images without annotation become unlabeled. The same command again goes on after a stop.
    """
    from imasks.exchange.folder import Shares, write_folder
    from imasks.exchange.registry import find_format
    from imasks.exchange.source import ReadOptions
    from imasks.prepare.source import check_outside

    read = find_format(format, "read").read
    assert read is not None
    shares = Shares(val_share=val_share, test_share=test_share, seed=seed, given=splits)
    options = ReadOptions(
        images=images,
        masks=masks,
        task=check_task(task),
        classes=tuple(split_names(classes)),
        palette=palette,
        crowd=crowd,
        empty=empty,
    )
    check_outside(out, [path for path in (source, images, masks) if path is not None])
    with console.status("reading annotations"):
        found = read(source, options)
    with progress("writing") as on_progress:
        report = write_folder(out, found, shares, on_progress=on_progress)
    say(f"Task: {found.card.task}; classes: {', '.join(found.card.classes)}.")
    for note in report.notes:
        say(note)
    for split, count in report.counts.items():
        say(f"{split}/: {count} images.")
    say(f"Next: imasks check {quote(out)}")
    tell_skipped(report.skipped)


def export_run(
    run: RunFolder,
    format: Annotated[str, typer.Option("--format", "-f", help=f"{WRITTEN}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    data: MovedData = None,
    approach: Approach = None,
    seed: Seed = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", help="Of the model, for the model card, e.g. CC-BY-4.0."
        ),
    ] = None,
    scale: Scale = "auto",
    device: Device = "auto",
) -> None:
    """Hand masks of the unlabeled images to another tool.

    Their inconsistency masks and expected qualities go along.
    """
    from imasks.data.card import shorten
    from imasks.exchange.export import Export, data_for, export
    from imasks.exchange.registry import find_format
    from imasks.runs.choice import choose
    from imasks.runs.predictor import predictor_of
    from imasks.runs.run import open_run

    find_format(format, "write")
    opened = open_run(run)
    chosen = choose(opened, approach=approach, seed=seed)
    dataset = data_for(opened, data)
    predictor = predictor_of(opened, chosen=chosen, device=device, scale=scale)
    what = Export(run=opened, chosen=chosen, predictor=predictor, dataset=dataset)
    say(f"Predicting with {chosen}")
    with progress("predicting") as on_progress:
        report = export(what, format, out, licence=licence, on_progress=on_progress)
    say(f"{len(report.says)} images exported to {out}; see {out / 'MODEL_CARD.md'}")
    if report.shared:
        say(
            f"{shorten(report.shared)}: images of other splits have these names too, so that "
            "`imasks import` cannot bring their masks back. Rename them before anyone corrects.",
            warning="names:",
        )
    tell_skipped(report.skipped)


def import_masks(
    source: Annotated[Path, typer.Argument(help="The file or folder with corrected masks.")],
    data: Annotated[Path, typer.Argument(help="The data folder whose images they belong to.")],
    format: Annotated[str, typer.Option("--format", "-f", help=f"{WRITTEN}.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace masks of labeled images.")
    ] = False,
    inconsistency: Annotated[
        str, typer.Option(help="Pixels still marked as inconsistent: 'drop' the mark or 'ignore'.")
    ] = "drop",
    empty: Empty = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")
    ] = False,
) -> None:
    """Bring corrected masks back from another tool.

    Unlabeled images of a data folder become labeled pairs.
    """
    from imasks.data.card import CARD_NAME, read_card
    from imasks.exchange.back import BackOptions, bring_back
    from imasks.exchange.registry import find_format

    back = find_format(format, "back").back
    assert back is not None
    options = BackOptions(overwrite=overwrite, inconsistency=inconsistency, dry=dry_run)
    found = back(source, read_card(data / CARD_NAME), empty)
    with progress("checking") as on_progress:
        report = bring_back(
            data,
            found.masks,
            options,
            notes=found.notes,
            skipped=found.skipped,
            on_progress=on_progress,
        )
    for note in report.notes:
        say(note)
    would = "would be " if dry_run else ""
    say(f"{len(report.labeled)} unlabeled images {would}labeled.")
    if report.replaced:
        say(f"{len(report.replaced)} masks of labeled images {would}replaced.")
    if report.unchanged:
        say(f"{len(report.unchanged)} labeled images have these masks already.")
    if (report.labeled or report.replaced) and not dry_run:
        say("The data have changed: train into a new run folder.")
    tell_skipped(report.skipped)
