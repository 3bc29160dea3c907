"""The page as one HTML file that loads nothing."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from imasks.jobs import write_atomic
from imasks.runs.html.page import Page

FILE = "index.html"


def render(page: Page) -> str:
    """Write a page as HTML; whatever comes from files or users is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("imasks.runs.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = asdict
    here = files("imasks.runs.html")
    style, script = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    template = environment.get_template("page.html.jinja")
    return template.render(
        page=page,
        shown_pictures=_of_viewers(page),
        style=Markup(style),
        script=Markup(script),
    )


def _of_viewers(page: Page) -> list[str]:
    """List the pictures that viewers change between, at their numbers; others stand in place."""
    numbers: set[int | None] = set()
    for run in page.runs:
        if run.viewer is not None:
            for image in run.viewer.images:
                numbers |= {image.picture, image.truth}
            for strand in run.viewer.strands:
                numbers |= {n for row in strand.frames for f in row for n in (f.label, f.mask)}
    return [uri if number in numbers else "" for number, uri in enumerate(page.pictures)]


def write_page(page: Page, folder: Path) -> Path:
    """Write ``index.html`` into a folder and return its path."""
    path = folder / FILE
    write_atomic(path, render(page).encode())
    return path
