"""From a finished run to predictions on images of any size.

Shape letters: E networks of the ensemble, C network outputs, K classes, P planes of a discrete
mask, H x W pixels of the image, h x w pixels as the networks see it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from imasks.labelling.calibration import Calibration
from imasks.labelling.judge import Judge
from imasks.models.weights import load_network
from imasks.runs.choice import Chosen, choose
from imasks.runs.configure import find_device
from imasks.runs.deciding import Bytes, Floats
from imasks.runs.ensemble import Ensemble, Said
from imasks.runs.run import Run
from imasks.runs.work import judge_of
from imasks.tasks import DETECTED, Task
from imasks.training.predict import images_on, probabilities


@dataclass(frozen=True, kw_only=True)
class Predictor(Ensemble):
    """The ensemble of a run, see :class:`imasks.runs.ensemble.Ensemble`.

    Args:
        networks: E networks in evaluation mode on `device`; uint8 or float [N,C,h,w] in 0..255 to
            logits, h and w as `preparation.size`.
        task: what their outputs mean.
        device: where the networks lie.
        judge: EvalNets on `device` that say how good predictions are; None: nobody does. They are
            asked about images that are shown whole only. A tile may hold nothing to find, where
            the score is 0 by definition, so the tiles' mean would tell how full an image is.
        calibration: from what they say to expected quality.
    """

    networks: tuple[nn.Module, ...]
    task: Task
    device: torch.device
    judge: Judge | None = None
    calibration: Calibration | None = None

    @property
    def judged(self) -> bool:
        """Whether predictions of images that are shown whole come with a quality."""
        return self.judge is not None and self.preparation.fit == "resize"

    def show(self, images: Bytes) -> Floats:
        """Show uint8 [n,h,w,C] of the training size to all networks; float32 [E,n,C,h,w]."""
        ((_, each),) = probabilities(
            self.networks, images, self.task, device=self.device, chunk=len(images)
        )
        return np.asarray(each.cpu().numpy())

    def count(self, mask: Bytes) -> dict[str, int]:
        """Count the things in a mask of classes that are points, by name."""
        if not self.task.counted:
            return {}
        found = self.task.count(torch.from_numpy(mask)[None])[0].tolist()
        return dict(zip(self.task.counted, found, strict=True))

    @torch.inference_mode()
    def look(self, whole: Bytes) -> Said:
        """Show one image, uint8 [1,h,w,C] of the training size, and judge what is said of it."""
        members = self.show(whole)
        if self.judge is None:
            return Said(members[:, 0], None, {})
        shown = images_on(self.device, whole)
        answers = self.judge(shown, torch.from_numpy(members).to(self.device)).cpu()
        score = self.task.pair_score(answers).numpy()
        expected = score if self.calibration is None else self.calibration(score)
        names = self.task.classes
        found = {}
        if self.task.detects:
            iou, detected = answers[0, :, -len(names) :].tolist()
            found = {n: q for n, q, d in zip(names, iou, detected, strict=True) if d >= DETECTED}
        return Said(members[:, 0], float(expected[0]), found)


def predictor_of(
    run: Run,
    *,
    chosen: Chosen | None = None,
    device: str = "auto",
    scale: str = "auto",
) -> Predictor:
    """Load an ensemble.

    Args:
        run: see :func:`imasks.runs.run.open_run`.
        chosen: what :func:`imasks.runs.choice.choose` found; by default the best of the run.
        device: "auto", "cpu" or "cuda"; not necessarily the one trained on.
        scale: see :class:`imasks.runs.ensemble.Ensemble`.

    Raises:
        UserError: nothing is finished, an option is wrong, or a file of the run is damaged.
    """
    where = torch.device(find_device(device))
    chosen = chosen or choose(run)
    judge = calibration = None
    if chosen.quality is not None:
        judge = judge_of(chosen.quality, run.store, device=where)
        result = run.store.result(chosen.quality)
        calibration = Calibration.from_json(result["calibration"])
    return Predictor(
        networks=tuple(load_network(run.store.folder(job)).to(where) for job in chosen.fits),
        task=run.config.make_task(),
        preparation=run.config.preparation,
        device=where,
        colors=run.config.colors,
        scale=scale,
        judge=judge,
        calibration=calibration,
    )
