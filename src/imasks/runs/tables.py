"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from imasks.runs.progress import duration
from imasks.runs.results import Row, Spread

MISSING = "-"


def results_table(rows: Sequence[Row], *, score: str) -> Table:
    """One line an approach; unfinished ones say so."""
    table = Table(title=f"{score}: mean ± deviation over seeds", title_justify="left")
    table.add_column("approach")
    table.add_column("generation", justify="right")
    for name in ("validation", "test", "test, ensemble", "gap closed"):
        table.add_column(name, justify="right")
    table.add_column("computing", justify="right")
    table.add_column("jobs", justify="right")
    for row in rows:
        table.add_row(
            row.approach if row.complete else f"{row.approach} (not finished)",
            ", ".join(map(str, row.generation)) or MISSING,
            *(_text(value) for value in (row.val, row.test, row.ensemble_test)),
            _percent(row.gap),
            duration(row.seconds),
            row.progress,
        )
    table.caption = (
        "generation: the one with the best validation score, by seed; computing: shared starts "
        "counted in; gap closed: (x - LDT) / (FDT - LDT)"
    )
    table.caption_justify = "left"
    return table


def _text(value: Spread | None) -> str:
    return MISSING if value is None else str(value)


def _percent(value: Spread | None) -> str:
    if value is None:
        return MISSING
    spread = "" if value.deviation is None else f" ± {value.deviation:.0%}"
    return f"{value.mean:.0%}{spread}"
