"""The command line: verbs, their options, and errors without a traceback.

Modules that load PyTorch are imported inside the commands, so that help comes at once.
"""

from __future__ import annotations

import functools
import inspect
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from imasks.cli_deploy import export_model
from imasks.cli_exchange import add_commands
from imasks.cli_prepare import prepare_app
from imasks.cli_review import review
from imasks.encoding import TaskName
from imasks.errors import UserError
from imasks.runs.options import Options, check_value

if TYPE_CHECKING:
    from imasks.data.folder import Dataset
    from imasks.runs.ensemble import Ensemble
    from imasks.runs.run import Run
    from imasks.runs.truth import Truth

app = typer.Typer(
    name="imasks",
    help="Semi-supervised image segmentation with Inconsistency Masks: a few images with masks, "
    "many without, one good model.",
    epilog="Start with `imasks demo`, or with `imasks init my_data --images A --masks B`, "
    "`imasks check my_data` and `imasks train my_data --out runs/first`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(prepare_app, name="prepare")
# file names are the user's own: brackets in them are no markup, colons no emoji
console = Console(markup=False, emoji=False, highlight=False)

DataFolder = Annotated[Path, typer.Argument(help="The data folder; `imasks init` makes one.")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder, as given to --out.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="The run folder. The same command again goes on in it.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and an estimate of the time; do nothing.")
]


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for every field of ``Options``, in place of ``options``."""
    hints = get_type_hints(Options)
    added = {}
    for field in fields(Options):
        flags = [f"--{field.name.replace('_', '-')}"]
        if hints[field.name] in (bool, bool | None) and field.default is None:
            flags[0] += f"/--no-{field.name.replace('_', '-')}"
        option = typer.Option(*flags, help=field.metadata["help"])
        added[field.name] = inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[hints[field.name], option],
        )

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in added}
        command(**given, options=Options(**chosen))

    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "options"
    ]
    with_options.__signature__ = inspect.Signature([*kept, *added.values()])  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in [*kept, *added.values()]}
    return with_options


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where data and run go.")] = Path(
        "imasks-demo"
    ),
) -> None:
    """Draw small images, train, compare and picture: a few minutes, no data needed."""
    from imasks.data.folder import open_dataset
    from imasks.demo import APPROACHES, LABELED, OPTIONS, UNLABELED, draw

    with console.status("drawing cells"):
        data = draw(out)
    counts = f"{LABELED} images with masks, {UNLABELED} without"
    _say(f"{data}: {counts}; four approaches learn from them.")
    _study(open_dataset(data), out / "run", list(APPROACHES), [0], OPTIONS, may_grow=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The data folder to make.")],
    images: Annotated[Path, typer.Option(help="A folder of images.")],
    masks: Annotated[Path, typer.Option(help="A folder of masks, or of one folder a class.")],
    unlabeled: Annotated[Path | None, typer.Option(help="More images without masks.")] = None,
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass or multilabel; guessed if not given.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names, with commas.")] = None,
    test_share: Annotated[
        float, typer.Option(help="Share of the labeled images set aside for testing.")
    ] = 0.0,
) -> None:
    """Turn two plain folders into a data folder, guessing what the masks mean."""
    from imasks.data.scaffold import init_folder

    known = next((name for name in get_args(TaskName) if name == task), None)
    if known != task:
        raise UserError(
            "--task is not known", value=task, remedy=f"Use {', '.join(get_args(TaskName))}."
        )
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    with console.status("reading masks and copying"):
        _, lines = init_folder(
            folder,
            images=images,
            masks=masks,
            unlabeled=unlabeled,
            task=known,
            classes=names,
            test_share=test_share,
        )
    for line in lines:
        _say(line)
    _say(f"Next: imasks check {_quote(folder)}")


@app.command()
def check(data: DataFolder) -> None:
    """Read every file of a data folder and report all that is wrong with it."""
    from imasks.data.check import check_folder
    from imasks.data.check_report import render

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        report = check_folder(
            data, on_progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    render(report, console)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def approaches() -> None:
    """List the approaches that can be trained."""
    from rich.table import Table

    from imasks.approaches.recipes import APPROACHES

    table = Table("name", "what it does", "starts from")
    for approach in APPROACHES.values():
        table.add_row(approach.name, approach.summary, approach.start or "")
    console.print(table)


@app.command()
@takes_options
def train(
    data: DataFolder,
    out: Out,
    approach: Annotated[
        str, typer.Option("--approach", "-a", help="See `imasks approaches`.")
    ] = "IM+",
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    dry_run: DryRun = False,
    *,
    options: Options,
) -> None:
    """Train a model on a data folder. The same command again goes on after a stop."""
    from imasks.data.folder import open_dataset

    _study(open_dataset(data), out, [approach], [seed], options, may_grow=False, dry=dry_run)


@app.command()
@takes_options
def study(
    data: DataFolder,
    out: Out,
    approaches: Annotated[
        str, typer.Option("--approaches", "-a", help="Names with commas, or `all`.")
    ] = "all",
    seeds: Annotated[int, typer.Option(help="Independent runs of everything.")] = 3,
    dry_run: DryRun = False,
    *,
    options: Options,
) -> None:
    """Train several approaches under the same conditions and compare them.

    Starts that approaches share are trained once. Approaches and seeds can be added later.
    """
    from imasks.data.folder import open_dataset
    from imasks.runs.configure import asked_for

    check_value("seeds", seeds, int, least=1)
    dataset = open_dataset(data)
    names, lacking = asked_for(dataset, approaches.split(","))
    for name, reason in lacking.items():
        _say(f"{name}: {reason}", warning="left out")
    _study(dataset, out, names, list(range(seeds)), options, may_grow=True, dry=dry_run)


@app.command()
def status(run: RunFolder) -> None:
    """Show how far a run is, what it found so far, and what remains."""
    from imasks.runs.run import open_run
    from imasks.runs.tables import status_table

    console.print(status_table(open_run(run)))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.")],
    published: Annotated[
        Path | None,
        typer.Option(
            help="A CSV of published results to draw beside: dataset, metric, approach, "
            "generation, test_score."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where it goes; by default report/ of the one run."),
    ] = None,
) -> None:
    """Redraw page, tables and figures from what is finished, several runs side by side."""
    from imasks.api import report as write

    with console.status("drawing"):
        files = write(runs, out=out, published=published)
    for file in files:
        _say(f"written: {file}")


@app.command()
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN IMAGES",
            help="The run folder, then images or folders of images; with --onnx, images only.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where masks and the table go.")],
    onnx: Annotated[
        Path | None,
        typer.Option(help="A file of `imasks export-model` in place of the run; needs no PyTorch."),
    ] = None,
    approach: Annotated[
        str | None, typer.Option(help="Of a study; by default the best on validation.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Likewise.")] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="auto; whole: shrink each image to the training size; native: tiles at the "
            "training magnification."
        ),
    ] = "auto",
    overlays: Annotated[bool, typer.Option(help="Draw masks over the images.")] = True,
    truth: Annotated[
        Path | None,
        typer.Option(help="A folder of these images' true masks: predictions are scored."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Predict masks, inconsistency masks and a table for new images of any size."""
    from imasks.data.files import write_text
    from imasks.runs.predictions import common_root, list_inputs, predict_files

    predictor: Ensemble
    if onnx is None:
        run, *images = paths
        predictor, name, about, true = _predictor_of_run(
            run, approach=approach, seed=seed, device=device, scale=scale, truth=truth
        )
    else:
        images = paths
        true = None
        predictor, name, about = _predictor_of_file(
            onnx, device=device, scale=scale, of_run=(approach, seed, truth)
        )
    if not images:
        raise UserError("no images are given", remedy="Give images, or folders of images.")
    inputs = list_inputs(images, out=out)
    _say(f"Predicting with {name}")
    if predictor.judged:
        score = predictor.task.primary
        _say(f"quality in the table: the {score} to expect of each mask, by EvalNets")
    with Progress(console=console) as bar:
        task = bar.add_task("predicting", total=len(inputs))
        report = predict_files(
            predictor,
            inputs,
            out,
            root=common_root(images),
            overlays=overlays,
            truth=true,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    write_text(out / "model.json", json.dumps(about))
    _say(f"{report.done} images predicted; see {out / 'predictions.csv'}")
    for name in [true.task.primary, *true.task.beside, "mean_class_iou"] if true else []:
        if name in report.scores:
            _say(f"{name}: {report.scores[name]:.3f}")
    for path, reason in report.skipped:
        _say(f"{path}: {reason}", warning="skipped")
    if report.skipped:
        raise typer.Exit(1)


app.command()(review)
app.command()(export_model)


def _predictor_of_run(
    run: Path,
    *,
    approach: str | None,
    seed: int | None,
    device: str,
    scale: str,
    truth: Path | None,
) -> tuple[Ensemble, str, dict[str, Any], Truth | None]:
    from imasks.runs.choice import choose
    from imasks.runs.colors import legend
    from imasks.runs.predictor import predictor_of
    from imasks.runs.run import open_run
    from imasks.runs.truth import Truth

    opened = open_run(run)
    chosen = choose(opened, approach=approach, seed=seed)
    predictor = predictor_of(opened, chosen=chosen, device=device, scale=scale)
    about = {"run": str(run.resolve()), **legend(opened.config), **chosen.to_json()}
    true = None if truth is None else Truth.of(truth, opened.config)
    return predictor, str(chosen), about, true


def _predictor_of_file(
    path: Path, *, device: str, scale: str, of_run: tuple[object, ...]
) -> tuple[Ensemble, str, dict[str, Any]]:
    from imasks.deploy.onnx_predictor import load_onnx

    if given := [one for one in of_run if one is not None]:
        raise UserError(
            "--approach, --seed and --truth need a run, and a model file holds one ensemble",
            value=", ".join(map(str, given)),
            remedy="Leave them out; `imasks export-model` takes the first two.",
        )
    predictor = load_onnx(path, device=device, scale=scale)
    about = {"onnx": str(path.resolve()), **predictor.task.to_json()}
    return predictor, f"{path}: {predictor.task}", about


def _study(
    dataset: Dataset,
    out: Path,
    names: list[str],
    seeds: list[int],
    options: Options,
    *,
    may_grow: bool,
    dry: bool = False,
) -> None:
    from imasks.api import finish
    from imasks.data.small import small_objects
    from imasks.deploy.observe import observers
    from imasks.runs.lost import REMEDY, lost_notes
    from imasks.runs.run import default_workers, estimate, plan_run
    from imasks.runs.tables import plan_table, results_table, start_note

    openers = observers(options)
    for note in dataset.skipped:
        _say(note, warning="left aside")
    run = plan_run(
        dataset, out, approaches=names, seeds=seeds, options=options, may_grow=may_grow, dry=dry
    )
    workers = default_workers(run, options)
    if run.config.review is not None:
        _say(f"Review: {run.config.review}")
    if dry:
        for finding in small_objects(dataset, run.config.preparation):
            _say(f"{finding.what}. {finding.remedy}", warning="small objects:")
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("measuring a few steps", total=None)
            times = estimate(
                run,
                workers=workers,
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        console.print(plan_table(run, times, workers=workers))
        return
    files = finish(run, workers=workers, console=console, openers=openers)
    _tell_skipped(run)
    console.print(results_table(run.rows(), score=run.config.make_task().primary))
    for remedy in dict.fromkeys(one.ended.remedy for one in run.outcomes() if one.ended):
        _say(f"their generations before count. {remedy}", warning="(ended)")
    if verdict := start_note(run.outcomes()):
        _say(verdict)
    if notes := lost_notes(run.outcomes()):
        for note in notes:
            _say(note, warning="lost classes:")
        _say(REMEDY)
    for file in files:
        _say(f"written: {file}")
    _say(f"Next: imasks predict {_quote(out)} IMAGES -o OUT")


def _tell_skipped(run: Run) -> None:
    for note in run.store.result(run.plan.prepare)["skipped"]:
        _say(note, warning="skipped")


def _say(text: str, *, warning: str = "") -> None:
    """Print a line as it is; long ones are left to the terminal, so that paths can be copied."""
    console.print(Text.assemble((f"{warning} " if warning else "", "yellow"), text), soft_wrap=True)


def _quote(path: Path) -> str:
    """Write a path as a shell wants it."""
    return shlex.quote(str(path))


add_commands(app)


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


if __name__ == "__main__":
    main()
