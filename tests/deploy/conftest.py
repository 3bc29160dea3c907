import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation
from imasks.data.synthetic import write_demo_dataset
from imasks.deploy.export import export_model
from imasks.labelling.calibration import Calibration
from imasks.labelling.judge import Judge
from imasks.models.unet import UNetConfig
from imasks.runs.choice import choose
from imasks.runs.options import Options
from imasks.runs.predictor import Predictor
from imasks.runs.run import plan_run, work

RESIZE = Preparation(
    size=(32, 48), channels=3, fit="resize", levels=None, native=(64, 96), largest=(64, 96)
)
TILES = replace(RESIZE, fit="tile")
DEEP = replace(RESIZE, channels=1, levels=((500.0, 4000.0),), depth="uint16")
TINY = Options(
    width=0.25,
    steps=12,
    batch=4,
    candidates=2,
    start_candidates=2,
    graders=1,
    quality=True,
    precision="float32",
    device="cpu",
    workers=os.cpu_count(),  # one thread each
)


class Local(nn.Module):
    """A network whose answers change little where the image does; untrained U-Nets are chaotic."""

    def __init__(self, task, prep, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.config = UNetConfig(in_channels=prep.channels, outputs=task.outputs)  # says the step
        self.conv = nn.Conv2d(prep.channels, task.outputs, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, images):
        return self.conv(images - 128)


class Covered(nn.Module):
    """Expects of every output about the share that it covers; of the last, that it is not there."""

    def __init__(self, task):
        super().__init__()
        self.detects = task.detects

    def forward(self, images, masks):
        share = masks.mean((2, 3)) / 2 + images.mean((1, 2, 3))[:, None] / 1000
        iou = share.clamp(1e-3, 1 - 1e-3).logit()
        there = torch.ones_like(iou)
        there[:, -1] = -1
        return torch.stack([iou, there] if self.detects else [iou], 1)


@cache
def predictor_for(task, prep=RESIZE, *, plain=False):
    knots = np.array([0.05, 0.2, 0.3, 0.35, 0.9])
    return Predictor(
        networks=tuple(Local(task, prep, seed).eval() for seed in (0, 1)),
        task=task,
        preparation=prep,
        device=torch.device("cpu"),
        judge=Judge(evalnets=[Covered(task)], task=task, plain=plain),
        calibration=Calibration(scores=knots, quality=np.array([0.0, 0.2, 0.5, 0.6, 0.95])),
    )


def blurred(H, W, prep=RESIZE, count=1):
    """Images of a file's own depth, as smooth as photographs, [N,H,W,C]."""
    rng = np.random.default_rng(H * W)
    planes = [
        Image.fromarray(plane).resize((W, H), Image.Resampling.BICUBIC)
        for plane in rng.integers(0, 256, (count * prep.channels, 6, 8), np.uint8)
    ]
    images = np.stack(planes).reshape(count, prep.channels, H, W).transpose(0, 2, 3, 1)
    images = np.ascontiguousarray(images)
    return images if prep.levels is None else images * np.uint16(17) + np.uint16(200)


@pytest.fixture(scope="session")
def tiny_cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "cells"
    write_demo_dataset(folder, labeled=6, unlabeled=2, val=3, test=3, size=(32, 32))
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_cells, tmp_path_factory):
    """A finished run of a start alone, whose predictions EvalNets judge."""
    run = plan_run(
        open_dataset(tiny_cells),
        tmp_path_factory.mktemp("runs") / "tiny",
        approaches=["LDT"],
        seeds=[0],
        options=TINY,
    )
    work(run, workers=1, console=Console(quiet=True))
    return run


@pytest.fixture(scope="session")
def exported(tiny_run, tmp_path_factory):
    """The run as an ONNX file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path_factory.mktemp("exported")
    return export_model(tiny_run, out, chosen=choose(tiny_run), licence="CC-BY-4.0")
