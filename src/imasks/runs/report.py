"""The report of one run or of several side by side: page, tables and figures of what is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imasks.errors import UserError
from imasks.runs.figures.published import read_published
from imasks.runs.figures.write import figures_of, write_figures
from imasks.runs.html.gather import page_of
from imasks.runs.html.render import write_page
from imasks.runs.records import titles_of, write_results
from imasks.runs.run import Run


def write_report(
    runs: Sequence[Run], *, out: Path | None = None, published: Path | None = None
) -> list[Path]:
    """Write the page, tables and figures anew, from job folders alone.

    Args:
        runs: at least one, finished or not.
        out: a folder; by default ``report/`` in the folder of the one run.
        published: a CSV of published results to draw beside the scores.

    Returns:
        The files to begin with: the page, both tables, and the list of figures if there are any.

    Raises:
        UserError: several runs and no folder, or the CSV cannot be used.
    """
    runs = list({run.folder.resolve(): run for run in runs}.values())
    panels = read_published(published) if published else []
    if out is None:
        if len(runs) > 1:
            raise UserError(
                "several runs have no report folder in common",
                value=", ".join(str(run.folder) for run in runs),
                remedy="Say with --out where the report goes.",
            )
        out = runs[0].folder / "report"
    titles = titles_of(runs)
    tables = write_results(runs, out)
    files = [write_page(page_of(runs, titles, panels), out), *tables]
    index = write_figures(figures_of(runs, titles, panels), out / "figures")
    return files if index is None else [*files, index]
