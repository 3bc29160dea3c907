"""All commands together, and errors without a traceback."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from imasks.cli import deploy, exchange, folders, predict, training
from imasks.cli.prepare import prepare_app
from imasks.cli.review import review
from imasks.errors import UserError

app = typer.Typer(
    name="imasks",
    help="Semi-supervised image segmentation with Inconsistency Masks: a few images with masks, "
    "many without, one good model.",
    epilog="Start with `imasks demo`, or with images of your own:\n\n\b\n"
    "imasks init my_data --images A --masks B --unlabeled C\n"
    "imasks check my_data\n"
    "imasks train my_data --out runs/first --quick\n"
    "imasks predict runs/first photos --out predicted\n\n"
    "Training ends with a report: runs/first/report/index.html.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # columns of equal rank leave the words a strip
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        python = platform.python_version()
        print(f"imasks {_version_of('imasks')} (PyTorch {_version_of('torch')}, Python {python})")
        raise typer.Exit


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # PyTorch: one may predict with ONNX files alone
        return "not installed"


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Say the version and end."
        ),
    ] = False,
) -> None:
    """Take options that stand before a command."""


app.command()(training.demo)
app.command()(folders.init)
app.add_typer(prepare_app, name="prepare")
app.command()(folders.check)
app.command()(training.approaches)
app.command()(training.train)
app.command()(training.study)
app.command()(training.status)
app.command()(training.report)
app.command()(predict.predict)
app.command()(review)
app.command("export")(exchange.export_run)
app.command("import")(exchange.import_masks)
app.command()(deploy.export_model)


def main() -> None:
    """Run the command line; errors that a user can act on are printed plainly."""
    from imasks.jobs import JobFailed

    try:
        app()
    except (UserError, OSError) as error:  # OSError: no permission, disk full, a lost share
        _complain("Error: ", str(error))
        sys.exit(2)
    except JobFailed as error:
        _complain("A job failed: ", str(error))
        record = error.folder / "error.json"  # what a lost worker had no time to write
        if record.exists():
            _complain("", f"Its traceback is in {record}.")
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("", "Stopped. Run the same command again to go on.")
        sys.exit(130)


def _complain(head: str, text: str) -> None:
    Console(stderr=True).print(Text.assemble((head, "bold red"), text), soft_wrap=True)
