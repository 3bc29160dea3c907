"""From a run to a model file that needs neither the run nor, as ONNX, torch.

The file is compared with PyTorch on validation images before it gets its name.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imasks.data.arrays import load_arrays
from imasks.data.files import atomic, write_text
from imasks.deploy.about import INPUT, About
from imasks.deploy.exported import Exported
from imasks.deploy.graph import EnsembleGraph, said
from imasks.deploy.onnx_predictor import as_input
from imasks.errors import UserError
from imasks.extras import needed
from imasks.runs.choice import Chosen
from imasks.runs.model_card import FILE as CARD
from imasks.runs.model_card import model_card
from imasks.runs.predictor import Predictor, predictor_of
from imasks.runs.run import Run

FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
OPSET = 20
CHECKED = 4
"""Validation images that a file is compared with PyTorch on."""
LIMITS = {"difference": 1e-3, "resized": 5e-3, "pixels": 1e-2}
"""What :class:`imasks.deploy.exported.Exported` may have at most. Resized pixels may come out one
grey level apart, which single probabilities, and decisions on the edge, may follow further."""

Ask = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
_AXES = {0: "batch", 1: "height", 2: "width"}


def export_model(
    run: Run, out: Path, *, chosen: Chosen, format: str = "onnx", licence: str | None = None
) -> Exported:
    """Write an ensemble as one file, and the model card beside it.

    Args:
        run: see :func:`imasks.runs.run.open_run`; its prepared validation images are read.
        out: the folder for ``model.onnx`` or ``model.pt2``, and ``MODEL_CARD.md``.
        chosen: what :func:`imasks.runs.choice.choose` found.
        format: "onnx" or "torch".
        licence: of the model, for the card.

    Raises:
        UserError: there is no such format, a library is missing, or the file says something else
            than the networks. Nothing is left of it then.
    """
    if format not in FILES:
        raise UserError(
            "there is no such format", value=format, remedy=f"Use {' or '.join(FILES)}."
        )
    if format == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            needed(module, extra="onnx", what="exporting to ONNX")
    predictor = predictor_of(run, chosen=chosen, device="cpu")
    graph = EnsembleGraph(predictor).eval()
    about = about_of(predictor, chosen, graph)
    images = _validation_images(run)
    program = _traced(graph, images)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", remedy="Give a folder to --out.")
    out.mkdir(parents=True, exist_ok=True)
    file = out / FILES[format]
    with atomic(file) as temp:
        if format == "onnx":
            _write_onnx(program, about, temp)
            found = _compared(graph, images, lambda x: _in_onnxruntime(temp, x))
        else:
            _write_torch(program, about, temp)
            found = _compared(graph, images, lambda x: _in_torch(program, graph, x))
    done = Exported(file=file, card=out / CARD, images=len(images), **found)
    lines = list(done.lines(about, run.config.points))
    write_text(done.card, model_card(run, chosen, export=lines, licence=licence))
    return done


def about_of(predictor: Predictor, chosen: Chosen, graph: EnsembleGraph) -> About:
    """Collect what a model file says about itself."""
    task = predictor.task
    return About(
        task=task.name,
        classes=task.classes,
        colors=predictor.colors,
        primary=task.primary,
        im_index=0 if task.exclusive else None,
        preparation=predictor.preparation,
        networks=len(predictor.networks),
        outputs=graph.outputs,
        approach=chosen.approach,
        seed=chosen.seed,
        generation=chosen.generation,
        val=None if math.isnan(chosen.val) else chosen.val,
        version=importlib.metadata.version("imasks"),
    )


def _validation_images(run: Run) -> NDArray[Any]:
    """The first few validation images [N,h,w,C], as a graph takes them."""
    images = load_arrays(run.store.folder(run.plan.prepare), "val", truth=False).images
    return as_input(np.ascontiguousarray(images[:CHECKED]), run.config.preparation)


def _traced(graph: EnsembleGraph, images: NDArray[Any]) -> torch.export.ExportedProgram:
    """Trace the graph for batches of images of any size."""
    smallest = 1 if graph.whole else graph.step + 1  # tracing takes it for two steps or more
    dims = {0: torch.export.Dim("batch")}
    dims |= {axis: torch.export.Dim(_AXES[axis], min=smallest) for axis in (1, 2)}
    # of all sizes different, lest two of them be taken for one
    example = torch.from_numpy(np.ascontiguousarray(_odd(images)[[0, 0]]))
    with _quiet(), _translated():
        return torch.export.export(graph, (example,), dynamic_shapes=(dims,))


def _odd(images: NDArray[Any]) -> NDArray[Any]:
    """The first image at another size, which is no multiple of anything: [1,H,W,C]."""
    larger = images[:1].repeat(2, 1).repeat(2, 2)
    return np.ascontiguousarray(larger[:, :-3, :-5])


def _write_onnx(program: torch.export.ExportedProgram, about: About, path: Path) -> None:
    with _quiet(), _translated():
        model = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(about.outputs),
            dynamic_shapes=(_AXES,),
            opset_version=OPSET,
            verbose=False,
        )
    assert model is not None
    model.model.metadata_props.update(about.to_metadata())
    model.save(path, external_data=False)


def _write_torch(program: torch.export.ExportedProgram, about: About, path: Path) -> None:
    # example inputs would be the only part of the file that is pickled
    program.example_inputs = None
    with path.open("wb") as file:
        torch.export.save(
            program, file, extra_files={"imasks.json": json.dumps(about.to_json(), indent=2)}
        )


def _in_onnxruntime(path: Path, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: images}), strict=True))


def _in_torch(
    program: torch.export.ExportedProgram, graph: EnsembleGraph, images: NDArray[Any]
) -> Mapping[str, NDArray[Any]]:
    with torch.inference_mode():
        found = program.module()(torch.from_numpy(images))
    return {name: one.numpy() for name, one in zip(graph.outputs, found, strict=True)}


def _compared(graph: EnsembleGraph, images: NDArray[Any], ask: Ask) -> dict[str, float]:
    """Compare what a file says with PyTorch, at the training size and at another.

    Returns:
        What :class:`imasks.deploy.exported.Exported` has of it.

    Raises:
        UserError: one of the differences is too large.
    """
    other = _odd(images)
    at_size, pixels = _differences(said(graph, images), ask(images), np.max)
    resized, more = _differences(said(graph, other), ask(other), np.mean)
    found = {"difference": at_size, "resized": resized, "pixels": max(pixels, more)}
    if any(value > LIMITS[name] for name, value in found.items()):
        raise UserError(
            "the exported model does not say what the networks say",
            value=", ".join(
                f"{name} {value:.2g} (limit {LIMITS[name]:g})" for name, value in found.items()
            ),
            remedy="Use the run folder itself, or try other versions of torch, onnxscript and "
            "onnxruntime.",
        )
    return found


def _differences(
    expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], reduce: Any
) -> tuple[float, float]:
    """Compare all outputs.

    Returns:
        Of those that hold numbers, the largest or mean difference, as ``reduce`` says; infinite
        where only one side has a number. Of the others, the share that differs.
    """
    difference = share = 0.0
    for name, one in expected.items():
        other = found[name]
        if one.dtype != np.float32:
            share = max(share, float((one != other).mean()))
        elif one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
            return math.inf, share
        else:
            apart = np.abs(np.nan_to_num(one) - np.nan_to_num(other))
            difference = max(difference, float(reduce(apart)))
    return difference, share


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from talking about its own inner life."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _translated() -> Iterator[None]:
    """Say plainly that networks, perhaps the user's own, are none that can be exported."""
    try:
        yield
    except Exception as error:  # torch and onnxscript have many kinds of them
        raise UserError(
            "the networks cannot be exported",
            value=(str(error) or type(error).__name__).splitlines()[0],
            remedy="Use the run folder itself; what torch.export can trace is said in its "
            "documentation.",
        ) from error
