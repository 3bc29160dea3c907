import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from imasks.data.files import read_image, read_mask, write_png
from imasks.data.source import in_memory, open_image
from imasks.runs import bands, large, predictions
from imasks.runs.large import predict_large, write_tiles
from imasks.runs.predictions import predict_files
from tests.runs.test_predictor import RESIZE, TASKS, TILES, make, noise, unet


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize(
    ("preparation", "scale"),
    [
        (TILES, "auto"),
        (RESIZE, "native"),
        (RESIZE, "whole"),
        (replace(RESIZE, native=(20, 30)), "native"),
    ],
    ids=["tiles", "shrunk", "whole", "enlarged"],
)
def test_an_image_in_bands_has_the_mask_of_the_image(
    tmp_path, monkeypatch, task, preparation, scale
):
    monkeypatch.setattr(bands, "VALUES_AT_ONCE", 9000)
    monkeypatch.setattr(bands, "SOURCE_ROWS", 20)
    predictor = make([unet(task, seed) for seed in (0, 1)], task, preparation, scale=scale)
    image, shares = noise(150, 170), []
    found = predict_large(predictor, in_memory(image), tmp_path, on_progress=shares.append)
    expected = predictor(image)
    # rounding may decide otherwise where two answers are equally likely
    assert (found.mask == expected.mask).mean() > 0.999
    assert (found.im == expected.im).mean() > 0.999
    assert found.mask.shape == expected.mask.shape
    for name in ("agreement", "im_share", "confidence"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-3)
    assert found.areas == pytest.approx(expected.areas, abs=1e-3)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_large_images_have_tiled_masks_and_small_overlays(tmp_path, monkeypatch, task):
    path = tmp_path / "big one.tif"
    image = noise(700, 600)
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="deflate")
    write_png(tmp_path / "small.png", noise(40, 50))
    predictor, out = make([unet(task)], task, TILES), tmp_path / "out"
    predict_files(predictor, [path, tmp_path / "small.png"], tmp_path / "plain")
    for module in (large, predictions):
        monkeypatch.setattr(module, "LARGE", 100_000)
    monkeypatch.setattr(predictions, "OVERLAY_SIDE", 300)
    steps = []
    report = predict_files(
        predictor,
        [path, tmp_path / "small.png"],
        out,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert (report.done, report.skipped) == (2, ())
    assert steps == sorted(steps)
    assert steps[-1] == (2, 2)
    assert 0 < steps[0][0] < 1
    masks = sorted(p.relative_to(out) for p in (out / "masks").rglob("*.*"))
    assert {p.name for p in masks} == {"big one.tif", "small.png"}
    for place in (*masks, "inconsistency/big one.tif"):
        plain = (tmp_path / "plain" / place).with_suffix(".png")
        assert (read_mask(out / place) == read_mask(plain)).mean() > 0.999
        if task.name == "multiclass":
            assert (read_image(out / place) == read_image(plain)).mean() > 0.999
    with tifffile.TiffFile(out / "inconsistency/big one.tif") as file:
        assert file.pages.first.is_tiled
    assert read_image(out / "overlays/big one.jpg").shape == (300, 257, 3)
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (513, 40), (40, 1030)])
def test_tiles_of_a_file_are_the_array(tmp_path, shape):
    array = noise(*shape)[..., 0]
    write_tiles(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), array)
    write_tiles(tmp_path / "a.tif", array > 100)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), (array > 100) * 255)


def test_a_large_image_that_is_damaged_stops_nothing(tmp_path, monkeypatch):
    for module in (large, predictions):
        monkeypatch.setattr(module, "LARGE", 1000)
    image = noise(100, 90)
    for name, end in (("a", None), ("b", -500)):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="rgb")
        data = (tmp_path / f"{name}.tif").read_bytes()
        (tmp_path / f"{name}.tif").write_bytes(data[:end])
    tifffile.imwrite(tmp_path / "c.tif", image.astype(np.uint16), photometric="rgb")
    inputs = [tmp_path / f"{name}.tif" for name in "abc"]
    report = predict_files(make([unet(TASKS[0])], TASKS[0]), inputs, tmp_path / "out")
    assert report.done == 1
    (b, damaged), (c, depth) = report.skipped
    assert (b.name, c.name) == ("b.tif", "c.tif")
    assert "ends too early" in damaged
    assert "uint16 where" in depth
    assert not (tmp_path / "out/masks/c.tif").exists()


SCRIPT = """
import json, resource, sys
import torch
from pathlib import Path
from imasks.runs.predictions import predict_files
from imasks.tasks import Binary
from tests.runs.test_predictor import Brightness, TILES, make
from dataclasses import replace
torch.set_num_threads(1)
prep = replace(TILES, size=(256, 256), channels=3, depth="float32", levels=((0.0, 1.0),) * 3)
predictor = make([Brightness(100), Brightness(150)], Binary(["cell"]), prep)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = predict_files(predictor, [Path(sys.argv[1])], Path(sys.argv[2]), overlays=False)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"done": report.done, "mib": (after - before) / 1024}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is told by POSIX systems only")
def test_memory_is_bounded(tmp_path):
    side, path = 8200, tmp_path / "big.tif"

    def tiles():
        rng = np.random.default_rng(0)
        for _ in range((-(-side // 512)) ** 2):
            level = np.float32(rng.random())
            yield np.full((512, 512, 3), level, np.float32)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.float32,
        tile=(512, 512),
        photometric="rgb",
        compression="zlib",
    )
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(found.stdout)
    assert told["done"] == 1
    whole = side * side * 3 * 4 / 2**20  # 770 MiB
    assert told["mib"] < whole / 2
    with open_image(tmp_path / "out/masks/big.tif") as mask, open_image(path) as image:
        bright = image.rows(700, 701)[0, :, 0] > 125 / 255  # the mean of 100 and 150
        assert (mask.rows(700, 701)[0, :, 0] == bright * 255).mean() > 0.999
