"""The command `imasks predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from imasks.cli.options import Approach, Device, Scale, Seed
from imasks.cli.screen import console, say, tell_skipped
from imasks.errors import UserError

if TYPE_CHECKING:
    from imasks.runs.ensemble import Ensemble
    from imasks.runs.truth import Truth


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
    approach: Approach = None,
    seed: Seed = None,
    scale: Scale = "auto",
    overlays: Annotated[bool, typer.Option(help="Draw masks over the images.")] = True,
    truth: Annotated[
        Path | None,
        typer.Option(help="A folder of these images' true masks: predictions are scored."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Predict masks, with inconsistency masks and a table.

    For new images of any size.
    """
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
    say(f"Predicting with {name}")
    if predictor.judged:
        score = predictor.task.primary
        say(f"quality in the table: the {score} to expect of each mask, by EvalNets")
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
    say(f"{report.done} image{'s' * (report.done != 1)} predicted; see {out / 'predictions.csv'}")
    for name in [true.task.primary, *true.task.beside, "mean_class_iou"] if true else []:
        if name in report.scores:
            say(f"{name}: {report.scores[name]:.3f}")
    tell_skipped(report.skipped)


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
