"""What a look through a data folder found, printed for a person."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imasks.data.card import shorten
from imasks.data.check import CheckReport
from imasks.data.folder import VAL_SHARE


def render(report: CheckReport, console: Console) -> None:
    """Print the tables and findings for a person."""
    card = report.card
    console.print(Text(f"{card.name}: {card.task}, {', '.join(card.classes)}", style="bold"))
    console.print(_split_table(report))
    labeled = report.splits["labeled"].images
    if labeled > 1 and not report.splits["val"].images:
        count = max(1, round(VAL_SHARE * labeled))  # the pages of a stack stay together
        share = f"About {count} of the {labeled} images in labeled/ will serve for validation, as "
        share += "val/ holds no images."
        console.print(Text(share, style="dim"))
    if any(split.masked for split in report.splits.values()):
        console.print(_class_table(report))
    for finding in report.findings:
        line = Text(f"{finding.level}: ", style="red" if finding.level == "error" else "yellow")
        line.append(finding.what, style="default")
        files = shorten(finding.files)
        line.append(f"\n  {files}" if files else "", style="dim")
        line.append(f"\n  {finding.remedy}", style="default")
        console.print(line)
    errors = sum(finding.level == "error" for finding in report.findings)
    blocked = "1 error stands in the way." if errors == 1 else f"{errors} errors stand in the way."
    verdict = "Ready for training." if report.ok else blocked
    console.print(Text(verdict, style="green" if report.ok else "red"))


def _split_table(report: CheckReport) -> Table:
    table = Table("split", title="Images", title_justify="left")
    for column in ("images", "with masks", "empty masks"):
        table.add_column(column, justify="right")
    for column in ("height: min, median, max", "width: min, median, max", "kind"):
        table.add_column(column)
    for name, split in report.splits.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in split.kinds.items())
        spreads = (_join(split.heights), _join(split.widths))
        table.add_row(
            name, str(split.images), str(split.masked), str(split.empty), *spreads, kinds or "-"
        )
    return table


def _class_table(report: CheckReport) -> Table:
    title = "Classes: share of the pixels, and images in which they occur"
    table = Table("class", title=title, title_justify="left")
    masked = {name: split for name, split in report.splits.items() if split.masked}
    for name in masked:
        table.add_column(name, justify="right")
    for name in report.card.classes:
        cells = [
            f"{split.pixel_shares[name]:.2%} in {split.image_counts[name]}"
            for split in masked.values()
        ]
        table.add_row(Text(name), *cells)
    return table


def _join(spread: tuple[int, int, int] | None) -> str:
    return "-" if spread is None else ", ".join(str(side) for side in spread)
