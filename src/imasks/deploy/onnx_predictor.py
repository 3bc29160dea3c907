"""Predictions by an exported model, in ONNX Runtime. Needs no torch.

Shape letters: E networks, n images, C image channels, O network outputs, H x W pixels of an image,
h x w pixels as the networks see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.prepare import Preparation
from imasks.deploy.about import CLASS_QUALITY, INPUT, QUALITY, About
from imasks.errors import UserError
from imasks.extras import needed
from imasks.runs.deciding import Bytes, Floats
from imasks.runs.ensemble import Ensemble, Said

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_READ = ("members", QUALITY, CLASS_QUALITY)
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, kw_only=True)
class OnnxPredictor(Ensemble):
    """An exported ensemble, see :class:`imasks.runs.ensemble.Ensemble`.

    Images are resized and cut into tiles outside of the graph, so that large ones do not need
    memory for all of its outputs at their full size; it sees images of the training size only.

    Args:
        session: of ONNX Runtime.
        task: what the model says about itself.
    """

    task: About
    session: InferenceSession

    @property
    def judged(self) -> bool:
        """Whether predictions of images that are shown whole come with a quality."""
        return self.task.judged

    def show(self, images: Bytes) -> Floats:
        """Show uint8 [n,h,w,C] of the training size to all networks; float32 [E,n,O,h,w]."""
        return self._ask(images)["members"]

    def look(self, whole: Bytes) -> Said:
        """Show one image, uint8 [1,h,w,C] of the training size, and judge what is said of it."""
        answers = self._ask(whole)
        found: dict[str, float] = {}
        if self.task.detects:
            each = zip(self.task.classes, answers[CLASS_QUALITY][0].tolist(), strict=True)
            found = {name: value for name, value in each if not np.isnan(value)}
        quality = float(answers[QUALITY][0]) if self.judged else None
        return Said(answers["members"][:, 0], quality, found)

    def _ask(self, images: Bytes) -> dict[str, NDArray[Any]]:
        """Show uint8 [n,h,w,C] to the graph, see :class:`imasks.deploy.graph.EnsembleGraph`."""
        wanted = [name for name in self.task.outputs if name in _READ]
        found = self.session.run(wanted, {INPUT: as_input(images, self.preparation)})
        return dict(zip(wanted, found, strict=True))


def as_input(images: Bytes, prep: Preparation) -> NDArray[Any]:
    """Give a graph images that are uint8 already: as they are, or as grey values of their files."""
    if prep.levels is None:
        return images
    low, high = np.array(prep.levels, np.float64).T
    return np.asarray(low + images / 255 * (high - low), np.float32)


def load_onnx(path: Path, *, device: str = "auto", scale: str = "auto") -> OnnxPredictor:
    """Load a file that ``imasks export-model`` wrote.

    Args:
        path: of the file.
        device: "cpu"; "cuda", which needs a build of ONNX Runtime with it; "auto": the fastest of
            the two that there is.
        scale: see :class:`imasks.runs.ensemble.Ensemble`.

    Raises:
        UserError: ONNX Runtime is not installed or lacks the device, or the file cannot be used.
    """
    runtime = needed("onnxruntime", extra="onnx", what="predicting with an ONNX file")
    if not path.is_file():
        raise UserError(f"{path} is no file", remedy="Give what `imasks export-model` wrote.")
    providers = _providers(device, runtime.get_available_providers())
    try:
        session = runtime.InferenceSession(path, providers=providers)
    except Exception as error:  # its errors share no class but this
        raise UserError(
            f"{path} cannot be read as an ONNX model",
            value=str(error).splitlines()[0],
            remedy="Give what `imasks export-model` wrote, or export it again.",
        ) from error
    about = About.from_metadata(session.get_modelmeta().custom_metadata_map, path)
    return OnnxPredictor(
        session=session,
        task=about,
        preparation=about.preparation,
        colors=about.colors,
        scale=scale,
    )


def _providers(device: str, there: list[str]) -> list[str]:
    wanted = ["cuda", "cpu"] if device == "auto" else [device]
    found = [_PROVIDERS[name] for name in wanted if _PROVIDERS.get(name) in there]
    if not found:
        raise UserError(
            "ONNX Runtime has no such device here",
            value=device,
            remedy="Use cpu or auto; for cuda, install onnxruntime-gpu in place of onnxruntime.",
        )
    return found
