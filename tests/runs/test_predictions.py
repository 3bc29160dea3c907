import csv
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from imasks.data.files import read_image, read_mask, write_png
from imasks.data.prepare import Preparation
from imasks.errors import UserError
from imasks.models.unet import UNet, UNetConfig
from imasks.runs.colors import class_colors
from imasks.runs.predictions import common_root, list_inputs, predict_files
from imasks.runs.predictor import Predictor
from imasks.tasks import Binary, Multiclass, Multilabel

PREP = Preparation(
    size=(32, 32), channels=3, fit="resize", levels=None, native=(40, 50), largest=(40, 50)
)


class Brightness(nn.Module):
    def forward(self, images):
        return images[:, :1] - 128


def predictor_for(task, networks=2, **more):
    torch.manual_seed(0)
    prep = replace(PREP, **more)
    config = UNetConfig(in_channels=prep.channels, outputs=task.outputs, width=0.25)
    ensemble = tuple(UNet(config).eval() for _ in range(networks))
    return Predictor(networks=ensemble, task=task, preparation=prep, device=torch.device("cpu"))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    write_png(folder / "one.png", rng.integers(0, 256, (40, 50, 3), np.uint8))
    Image.fromarray(rng.integers(0, 256, (30, 20, 4), np.uint8)).save(folder / "deep" / "one.png")
    Image.fromarray(rng.integers(0, 256, (40, 50), np.uint8)).save(folder / "two.b.JPG", "JPEG")
    (folder / "notes.txt").write_text("no image")
    (folder / "._one.png").write_text("hidden")
    return folder


def table(out):
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_inputs_are_sorted_unique_and_images_only(images):
    expected = [images / "deep" / "one.png", images / "one.png", images / "two.b.JPG"]
    assert list_inputs([images]) == expected
    assert list_inputs([images / "one.png", images, images / "deep"]) == expected


def test_inputs_that_cannot_be(images, tmp_path):
    with pytest.raises(UserError, match=r"gone does not exist"):
        list_inputs([tmp_path / "gone"])
    with pytest.raises(UserError, match=r"notes\.txt is no image"):
        list_inputs([images / "notes.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is no image"):
        list_inputs([images, tmp_path / "empty"])


def test_the_common_root_is_a_given_folder_itself(images):
    assert common_root([images]) == images
    assert common_root([images / "one.png"]) == images
    assert common_root([images / "deep", images / "one.png"]) == images
    assert common_root([images / "deep"]) == images / "deep"


def test_binary_results(images, tmp_path):
    predictor, out = predictor_for(Binary(["cell"])), tmp_path / "out"
    steps = []
    report = predict_files(
        predictor,
        list_inputs([images]),
        out,
        root=images,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert (report.done, report.skipped) == (3, ())
    assert steps == [(1, 3), (2, 3), (3, 3)]
    names = ["deep/one", "one", "two.b"]
    assert files(out) == sorted(
        [f"masks/{name}.png" for name in names]
        + [f"inconsistency/{name}.png" for name in names]
        + [f"overlays/{name}.jpg" for name in names]
        + ["predictions.csv"]
    )
    found = predictor(read_image(images / "one.png"))
    assert (read_mask(out / "masks/one.png") == found.mask * 255).all()
    assert (read_mask(out / "inconsistency/one.png") == found.im * 255).all()
    assert read_image(out / "overlays/deep/one.jpg").shape == (30, 20, 3)
    rows = table(out)
    assert [row["file"] for row in rows] == ["deep/one.png", "one.png", "two.b.JPG"]
    assert (rows[0]["width"], rows[0]["height"]) == ("20", "30")
    assert float(rows[1]["area/cell"]) == pytest.approx(found.areas["cell"], abs=1e-6)
    assert float(rows[1]["confidence"]) == pytest.approx(found.confidence, abs=1e-6)
    assert float(rows[1]["agreement"]) + float(rows[1]["im_share"]) == pytest.approx(1, abs=2e-6)


def test_multiclass_masks_are_ids_in_the_classes_colours(images, tmp_path):
    task = Multiclass(["sea", "land", "ice"])
    predictor, out = predictor_for(task), tmp_path / "out"
    predict_files(predictor, [images / "one.png"], out, overlays=False)
    mask = predictor(read_image(images / "one.png")).mask
    assert (read_mask(out / "masks/one.png") == mask).all()
    assert (read_image(out / "masks/one.png") == class_colors(task)[mask]).all()
    assert not (out / "overlays").exists()
    assert list(table(out)[0])[-3:] == ["area/sea", "area/land", "area/ice"]


def test_multilabel_masks_have_a_folder_a_class(images, tmp_path):
    predictor, out = predictor_for(Multilabel(["alive", "dead, or so"])), tmp_path / "out"
    predict_files(predictor, list_inputs([images]), out, root=images)
    mask = predictor(read_image(images / "deep/one.png")).mask
    for plane, name in zip(mask, ("alive", "dead, or so"), strict=True):
        assert (read_mask(out / "masks" / name / "deep/one.png") == plane * 255).all()
    assert "area/dead, or so" in table(out)[0]


def test_sixteen_bits_and_orientation(tmp_path):
    deep = np.full((40, 50), 500, np.uint16)
    deep[:10] = 4000
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    prep = replace(PREP, channels=1, levels=((500.0, 4000.0),), depth="uint16")
    task, cpu = Binary(["cell"]), torch.device("cpu")
    predictor = Predictor(networks=(Brightness(),), task=task, preparation=prep, device=cpu)
    predict_files(predictor, [tmp_path / "deep.tif"], tmp_path / "out")
    assert read_mask(tmp_path / "out/masks/deep.png")[:8].all()
    assert not read_mask(tmp_path / "out/masks/deep.png")[12:].any()

    photo = Image.fromarray(np.zeros((30, 44, 3), np.uint8))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif)
    predict_files(predictor_for(task), [tmp_path / "photo.jpg"], tmp_path / "out2")
    assert read_mask(tmp_path / "out2/masks/photo.png").shape == (44, 30)


def test_what_cannot_be_predicted_is_reported_and_stops_nothing(images, tmp_path):
    (images / "broken.png").write_bytes((images / "one.png").read_bytes()[:200])
    write_png(images / "deep16.png", np.zeros((9, 9), np.uint16))
    predictor, out = predictor_for(Binary(["cell"])), tmp_path / "out"
    report = predict_files(predictor, list_inputs([images]), out)
    assert report.done == 3
    reasons = {path.name: reason for path, reason in report.skipped}
    assert set(reasons) == {"broken.png", "deep16.png"}
    assert "damaged" in reasons["broken.png"]
    assert "uint16" in reasons["deep16.png"]
    assert len(table(out)) == 3
    assert not (out / "masks/broken.png").exists()


def test_two_inputs_for_one_result_are_refused(images, tmp_path):
    write_png(images / "one.bmp.png", np.zeros((9, 9), np.uint8))
    Image.new("L", (9, 9)).save(images / "one.bmp")
    with pytest.raises(UserError, match=r"one\.bmp and .*one\.png would both write one\.png"):
        predict_files(predictor_for(Binary(["cell"])), list_inputs([images]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_again_replaces_and_does_not_read_its_own_results(images):
    out = images / "out"
    for seed in range(2):
        predictor = predictor_for(Binary(["cell"]), networks=1 + seed)
        inputs = list_inputs([images], out=out)
        report = predict_files(predictor, inputs, out, root=images)
        assert report.done == 3
    assert len(table(out)) == 3
    assert not [name for name in files(out) if name.endswith(".tmp")]
    expected = predictor(read_image(images / "one.png")).mask
    assert (read_mask(out / "masks/one.png") == expected * 255).all()
    with pytest.raises(UserError, match="lies where results go"):
        predict_files(predictor, list_inputs([images]), out, root=images)


def test_the_users_own_masks_are_not_replaced(images, tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"holds masks/ but no predictions\.csv"):
        predict_files(predictor_for(Binary(["cell"])), [images / "one.png"], tmp_path)


def test_an_interrupted_run_can_be_repeated(images, tmp_path):
    out, predictor = tmp_path / "out", predictor_for(Binary(["cell"]))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, list_inputs([images]), out, on_progress=stop)
    assert predict_files(predictor, list_inputs([images]), out).done == 3


def test_inputs_outside_of_the_root_are_refused(images, tmp_path):
    with pytest.raises(UserError, match="is not below"):
        predict_files(
            predictor_for(Binary(["cell"])),
            [images / "one.png"],
            tmp_path / "out",
            root=images / "deep",
        )
