"""What is written is what other tools read; where they are installed, they read it themselves."""

import contextlib
import io
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile

from imasks.data.files import read_image, read_mask, write_png
from imasks.errors import UserError
from imasks.exchange.brush import decode_brush, encode_brush
from imasks.exchange.coco import write_coco
from imasks.exchange.cvat import decode_runs, encode_runs, write_cvat
from imasks.exchange.labelstudio import labelstudio_sheets, write_labelstudio
from imasks.exchange.napari import napari_back, write_napari
from imasks.exchange.nnunet import label_values, write_nnunet
from imasks.exchange.sheets import INCONSISTENCY
from imasks.exchange.source import foreground_value

from .conftest import CARDS, SIZE

RNG = np.random.default_rng(5)


@pytest.fixture(params=CARDS)
def export(request, make_data, labelled, tmp_path):
    """Write predictions of one task in one form; give what they are about and where they are."""

    def run(writer):
        about, found = labelled(make_data(CARDS[request.param]))
        out = tmp_path / "out"
        out.mkdir()
        writer(out, about, found)
        return about, found, out

    return run


def test_pycocotools_reads_coco(export):
    from pycocotools.coco import COCO

    about, found, out = export(write_coco)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(out / "annotations.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == [*about.shown, INCONSISTENCY]
    images = coco.loadImgs(coco.getImgIds())
    assert [one["file_name"] for one in images] == ["u 0.png", "u 1.png", "u 2.png"]
    assert "quality" not in images[0]
    assert images[1]["quality"] == 0.75
    for image, one in zip(images, found, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        there = {names[a["category_id"]]: coco.annToMask(a) for a in annotations}
        for name, pixels in about.regions(one.prediction):
            np.testing.assert_array_equal(there.get(name, np.zeros(SIZE)), pixels)
        for a in annotations:
            rows, columns = np.nonzero(coco.annToMask(a))
            assert a["area"] == len(rows)
            x, y = columns.min(), rows.min()
            assert a["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]


def test_cvat_xml_follows_its_description(export):
    about, found, out = export(write_cvat)
    root = ET.parse(out / "annotations.xml").getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    declared = [one.text for one in root.findall("meta/task/labels/label/name")]
    assert declared == [*about.shown, INCONSISTENCY, "predicted"]
    assert [one["name"] for one in json.loads((out / "labels.json").read_text())] == declared
    images = root.findall("image")
    for number, (image, one) in enumerate(zip(images, found, strict=True)):
        H, W = SIZE
        assert (image.get("id"), image.get("name")) == (str(number), one.file)
        assert (image.get("width"), image.get("height")) == (str(W), str(H))
        said = {a.get("name"): float(a.text) for a in image.findall("tag/attribute")}
        assert said == one.says()
        there = {name: np.zeros(SIZE, bool) for name in declared}
        for mask in image.findall("mask"):
            x, y, w, h = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
            value, flat = False, []
            for length in mask.get("rle").split(","):  # rows of the box, background first
                flat += [value] * int(length)
                value = not value
            there[mask.get("label")][y : y + h, x : x + w] = np.reshape(flat, (h, w))
        for name, pixels in about.regions(one.prediction):
            np.testing.assert_array_equal(there[name], pixels)


def test_datumaro_reads_cvat(export):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    about, found, out = export(write_cvat)
    (out / "images").mkdir()
    for one in found:
        (out / "images" / one.file).write_bytes(one.sample.image.read_bytes())
    data = datumaro.Dataset.import_from(str(out), "cvat")
    labels = data.categories()[datumaro.AnnotationType.label]
    items = {item.id: item for item in data}
    assert list(items) == ["u 0", "u 1", "u 2"]
    for one in found:
        masks = [a for a in items[one.name].annotations if a.type.name == "mask"]
        there = {labels[a.label].name: a.image for a in masks}
        for name, pixels in about.regions(one.prediction):
            np.testing.assert_array_equal(there.get(name, np.zeros(SIZE)) > 0, pixels)


@pytest.mark.parametrize(
    ("size", "share"),
    # the last ones have runs that are longer than 16 bits can say
    [((1, 1), 1.0), ((7, 5), 0.5), ((64, 70), 0.1), ((300, 260), 0.0), ((300, 260), 1.0)],
)
def test_runs_and_brushes_keep_every_pixel(size, share):
    pixels = RNG.random(size) < share
    np.testing.assert_array_equal(decode_runs(encode_runs(pixels), size), pixels)
    np.testing.assert_array_equal(decode_brush(encode_brush(pixels), size), pixels)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_label_studio_reads_brushes_and_we_read_its_own(share):
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed"
    )
    pixels = RNG.random((40, 33)) < share
    there = brush.decode_rle(encode_brush(pixels)).reshape(40, 33, 4)
    np.testing.assert_array_equal(there, pixels[..., None].repeat(4, -1) * 255)
    theirs = brush.mask2rle(pixels.astype(np.uint8) * 255)
    np.testing.assert_array_equal(decode_brush(theirs, (40, 33)), pixels)


def test_recorded_brush_of_label_studio():
    # label_studio_sdk 2.1.2: mask2rle of the mask below
    recorded = [0, 0, 0, 80, 57, 27, 254, 27, 0, 159, 254, 216, 4, 255, 248, 92, 0]
    pixels = np.zeros((4, 5), bool)
    pixels[1:3, 2:4] = True
    np.testing.assert_array_equal(decode_brush(recorded, (4, 5)), pixels)
    assert encode_brush(pixels) == recorded


def test_brush_values_that_are_not_repeated():
    """Label Studio's own editor also writes blocks of single values."""
    alphas = [0, 9, 255]
    words = "".join(f"{0:024b}{alpha:08b}" for alpha in alphas)
    bits = f"{12:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "01" + f"{11:04b}" + words
    data = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(data, (1, 3)).tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="end too early"):
        decode_brush(data[:-2], (1, 3))
    with pytest.raises(ValueError, match="12 values for 2 x 3"):
        decode_brush(data, (2, 3))


def test_label_studio_tasks(export):
    about, found, out = export(write_labelstudio)
    config = ET.parse(out / "labeling_config.xml").getroot()
    assert config.find("Image").attrib["value"] == "$image"
    labels = [one.get("value") for one in config.findall("BrushLabels/Label")]
    assert labels == [*about.shown, INCONSISTENCY]
    tasks = json.loads((out / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["u 0.png", "u 1.png", "u 2.png"]
    assert [task["predictions"][0].get("score") for task in tasks] == [None, 0.75, 0.75]
    for task, one in zip(tasks, found, strict=True):
        regions = task["predictions"][0]["result"]
        for region in regions:
            assert (region["from_name"], region["to_name"]) == ("label", "image")
            assert (region["original_height"], region["original_width"]) == SIZE
        there = {
            region["value"]["brushlabels"][0]: decode_brush(region["value"]["rle"], SIZE)
            for region in regions
        }
        for name, pixels in about.regions(one.prediction):
            np.testing.assert_array_equal(there.get(name, np.zeros(SIZE)), pixels)
    # nobody has looked at them yet
    assert not any(sheet.shapes or sheet.done for sheet in labelstudio_sheets(out).sheets)


def test_label_studio_takes_the_predictions(export):
    interface = pytest.importorskip(
        "label_studio_sdk.label_interface", reason="label-studio-sdk is not installed"
    )
    about, _, out = export(write_labelstudio)
    project = interface.LabelInterface((out / "labeling_config.xml").read_text(encoding="utf-8"))
    project.validate()
    assert project.get_control("label").labels == [*about.shown, INCONSISTENCY]
    for task in json.loads((out / "tasks.json").read_text()):
        (prediction,) = task["predictions"]
        assert project.validate_prediction(prediction, return_errors=True) == []


def test_label_studio_annotations_come_back(make_data, labelled, tmp_path):
    from .test_round_trip import returned, user_masks

    folder = make_data(CARDS["background"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    write_labelstudio(out, about, found)
    tasks = json.loads((out / "tasks.json").read_text())
    for task in tasks[:2]:  # accepted as they are, as by the button
        task["annotations"] = [
            {"result": [], "was_cancelled": True},
            {"result": task["predictions"][0]["result"]},
        ]
        task["data"]["image"] = f"/data/upload/3/0123abcd-{task['data']['image']}"
    (out / "tasks.json").write_text(json.dumps(tasks))
    report = returned(folder, out, "labelstudio", empty=False)
    assert report.labeled == ("u 0", "u 1")  # the first shows nothing, and somebody said so
    there = dict(user_masks(folder))
    for one in found[:2]:
        np.testing.assert_array_equal(there[one.name], one.prediction.mask)


def test_nnunet_data_sets_follow_its_description(export):
    about, found, out = export(write_nnunet)
    (folder,) = out.iterdir()
    assert folder.name == f"Dataset001_{about.card.name}"
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert content["file_ending"] == ".png"
    cases = sorted(path.stem for path in (folder / "labelsTr").iterdir())
    assert len(cases) == content["numTraining"] == 3 + 2 + 3
    images = sorted(path.stem for path in (folder / "imagesTr").iterdir())
    assert images == [f"{case}_0000" for case in cases]
    labels = content["labels"]
    assert labels["background"] == 0
    flat = {v for one in labels.values() for v in (one if isinstance(one, list) else [one])}
    assert flat == set(range(labels["ignore"] + 1))  # consecutive, ignore the last
    if about.card.task == "multilabel":
        assert content["regions_class_order"] == [1, 2]
    for case in cases:
        ids = read_mask(folder / "labelsTr" / f"{case}.png")
        assert ids.shape == read_image(folder / "imagesTr" / f"{case}_0000.png").shape[:2]
        assert set(np.unique(ids)) <= flat
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    assert sorted(fold["train"] + fold["val"]) == cases
    assert all(case.startswith("val_") for case in fold["val"])
    for one in found:
        ids = read_mask(folder / "labelsTr" / f"unlabeled_{one.name}.png")
        np.testing.assert_array_equal(ids == labels["ignore"], one.prediction.im)
        for name, pixels in zip(about.shown, about.class_regions(one.prediction), strict=True):
            own = np.isin(ids, labels[name])
            np.testing.assert_array_equal(own, pixels & ~one.prediction.im)


def test_nnunet_verifies_its_data_sets(export, capfd):
    checks = pytest.importorskip(
        "nnunetv2.experiment_planning.verify_dataset_integrity", reason="nnunetv2 is not installed"
    )
    _, _, out = export(write_nnunet)
    (folder,) = out.iterdir()
    checks.verify_dataset_integrity(str(folder), num_processes=1)
    printed = capfd.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Error" not in printed
    # it does look: a value that no label has is found
    path = next((folder / "labelsTr").iterdir())
    write_png(path, np.full(SIZE, 200, np.uint8))
    with pytest.raises(RuntimeError, match="unexpected labels"):
        checks.verify_dataset_integrity(str(folder), num_processes=1)


def test_nnunet_takes_channels_that_are_no_colours_one_by_one(make_data, labelled, tmp_path):
    from dataclasses import replace

    import tifffile

    folder = make_data(CARDS["binary"])
    pixels = RNG.integers(0, 256, (*SIZE, 2), np.uint8)
    for path in folder.glob("*/images/*.png"):
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(path.with_suffix(".tif"), pixels, **options)
        path.unlink()
    about, found = labelled(folder)
    about = replace(about, preparation=replace(about.preparation, channels=2))
    out = tmp_path / "out"
    out.mkdir()
    write_nnunet(out, about, found)
    (inner,) = out.iterdir()
    names = json.loads((inner / "dataset.json").read_text())["channel_names"]
    assert names == {"0": "channel 1", "1": "channel 2"}
    for number in (0, 1):
        saved = read_image(inner / "imagesTr" / f"labeled_l 0_{number:04}.png")
        np.testing.assert_array_equal(saved[..., 0], pixels[..., number])


def test_nnunet_cannot_hold_many_overlapping_classes():
    from imasks.data.card import Card

    card = Card(name="x", task="multilabel", classes=tuple("abcdefgh"))
    with pytest.raises(UserError, match="8 classes"):
        label_values(card)


def test_napari_layers_are_integers_it_takes_for_labels(export):
    about, found, out = export(write_napari)
    layers = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.tif"))
    subs = [f"{name}/" for name in about.card.classes] if about.card.task == "multilabel" else [""]
    names = [one.name for one in found]
    assert layers == sorted(
        [f"labels/{sub}{name}.tif" for sub in subs for name in names]
        + [f"inconsistency/{name}.tif" for name in names]
    )
    for layer in layers:
        # integers of 32 bits are what napari guesses to be labels
        assert tifffile.imread(out / layer).dtype == np.int32
    lines = (out / "qualities.csv").read_text().splitlines()
    assert lines[0] == "file,quality,agreement,im_share,confidence"
    assert lines[1].startswith("u 0.png,,")
    assert lines[2].startswith("u 1.png,0.75,")


def test_napari_opens_labels_and_what_it_saves_comes_back(export):
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    from napari.layers import Labels
    from napari.plugins import _initialize_plugins
    from napari.plugins.io import save_layers

    about, found, out = export(write_napari)
    _initialize_plugins()
    viewer = components.ViewerModel()
    for path in sorted(out.rglob("*.tif")):
        (layer,) = viewer.open(str(path), plugin="napari")
        assert isinstance(layer, Labels)
        path.unlink()
        save_layers(str(path), [layer], plugin="napari")
    back = napari_back(out, about.card)
    for one in found:
        drawn = back[one.name](SIZE)
        expected = one.prediction.mask.reshape(-1, *SIZE)
        if about.card.task != "multiclass":
            expected = expected * foreground_value(about.card)
        np.testing.assert_array_equal(drawn.planes, expected)
        np.testing.assert_array_equal(drawn.im, one.prediction.im)
