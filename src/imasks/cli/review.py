"""The command `imasks review`."""

from __future__ import annotations

import signal
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.progress import Progress

from imasks.cli.options import Approach, Device, MovedData, RunFolder, Seed
from imasks.cli.screen import console, quote, say

if TYPE_CHECKING:
    from imasks.review.order import Order
    from imasks.review.session import Session


def review(
    run: RunFolder,
    data: MovedData = None,
    port: Annotated[int, typer.Option(help="To listen at; 0: any that is free.")] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only list what was decided, one image a line.")
    ] = False,
    order: Annotated[
        str,
        typer.Option(
            help="unsure: doubtful masks of new-looking images first; random: a fair sample."
        ),
    ] = "unsure",
    approach: Approach = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Look through masks in a browser, doubtful ones first.

    The masks are predictions for the unlabeled images.

    Accept, correct or reject them; everything is saved at once in RUN/review, and
    `imasks train DATA --review RUN/review` learns from it.
    """
    from imasks.review.opening import decided, open_session
    from imasks.review.server import serve
    from imasks.runs.run import open_run

    opened = open_run(run)
    if list_only:
        there = decided(opened, data=data)
        if not there:  # not among the lines, which scripts read
            typer.echo(f"Nothing was decided in a review of {run} yet.", err=True)
        for state, sample in there:
            page = "" if sample.page is None else f"\tpage {sample.page + 1}"
            typer.echo(f"{state}\t{sample.image}{page}")
        return
    with Progress(console=console, transient=True) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in ("predicting", "ordering")}
        session = open_session(
            opened,
            data=data,
            device=device,
            approach=approach,
            seed=seed,
            by=cast("Order", order),
            on_progress=lambda what, done, total: bar.update(
                tasks[what], completed=done, total=total
            ),
        )
    for reason in session.skipped:
        say(reason, warning="skipped")
    say(f"Masks are those of {session.chosen}")
    say(_progress(session))

    def ready(url: str) -> None:
        say(f"Open {url}")
        say("Ctrl+C ends it; every decision is saved as it is made.")
        if open_page:
            webbrowser.open(url)

    for end in (signal.SIGINT, signal.SIGTERM):
        # said anew: a program that a script starts in the background is born deaf to Ctrl+C
        signal.signal(end, signal.default_int_handler)
    serve(session, port=port, ready=ready)
    say("")
    say(_progress(session))
    if not {"accepted", "rejected"} & session.counts().keys():
        return
    folders = (quote(Path(path)) for path in (data or opened.config.data, session.folder))
    say("Next: imasks train {} --review {} --out NEW_RUN".format(*folders))


def _progress(session: Session) -> str:
    counts = session.counts()
    parts = [
        f"{counts.get(state, 0)} {words}"
        for state, words in (
            ("accepted", "accepted"),
            ("rejected", "rejected"),
            ("to_label", "to label"),
            ("", "open"),
        )
    ]
    return f"{len(session.items)} images: {', '.join(parts)}"
