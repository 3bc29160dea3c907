"""Sources that mislead: nothing is paired, split or drawn wrongly, and nothing crashes."""

import base64
import io
import json

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from imasks.data.card import read_card
from imasks.data.files import read_mask, write_png
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.exchange.registry import find_format
from imasks.exchange.source import Finder, ReadOptions

SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]  # x from 2 to 6, y from 1 to 4
SQUARE_POINTS = [[2, 1], [6, 1], [6, 4], [2, 4]]


def read(name, source, **options):
    return find_format(name, "read").read(source, ReadOptions(**options))


def square():
    pixels = np.zeros((8, 10), np.uint8)
    pixels[1:4, 2:6] = 1
    return pixels


@pytest.fixture
def save_json(tmp_path):
    def save(content, name="given.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return save


def coco(*shapes, names=("a.png", "b.png"), categories=("cat",)):
    """One shape an image; all are of the first category."""
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 0, "segmentation": [one]}
            for i, one in enumerate(shapes)
        ],
    }


@pytest.mark.parametrize("far", [float("nan"), float("inf"), 1e7, -1e300])
def test_corners_that_lie_nowhere_cost_one_image(save_json, pictures, write, far):
    path = save_json(coco([0, 0, far, 0, 6, 4], SQUARE))
    report, _ = write(read("coco", path, images=pictures("a.png", "b.png")))
    assert "a shape has a corner that lies nowhere" in dict(report.skipped)["a.png"]
    assert report.counts == {"labeled": 1}


def test_an_image_of_the_same_name_elsewhere_is_another(save_json, pictures, write):
    images = pictures("two/a.png", "b.png")
    path = save_json(coco(SQUARE, SQUARE, names=("one/a.png", "../../b.png")))
    report, _ = write(read("coco", path, images=images))
    assert [name for name, _ in report.skipped] == ["one/a.png"]
    assert report.counts == {"labeled": 1, "unlabeled": 1}
    finder = Finder(images)
    assert finder.find("C:\\data\\two\\a.png") == "two/a.png"
    assert finder.find("a.png") == "two/a.png"
    nested = Finder(pictures("a.png", "x/a.png", folder="nested"))
    assert nested.find("/root/x/a.png") == "x/a.png"
    assert nested.find("/root/y/a.png") == "a.png"


def test_what_was_stopped_with_other_classes_begins_anew(save_json, pictures, write, monkeypatch):
    content = coco(SQUARE, SQUARE, categories=("cat", "dog", "cow"))
    for one in content["annotations"]:
        one["category_id"] = one["id"] + 1
    path, images = save_json(content), pictures("a.png", "b.png")

    def source(*classes):
        return read("coco", path, images=images, task="binary", classes=classes, empty=True)

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("imasks.exchange.folder.write_mark", stop)
        with pytest.raises(KeyboardInterrupt):
            write(source("cat", "dog"))
    _, out = write(source("cat", "cow"))  # the card is the same
    assert not read_mask(out / "labeled/masks/a.png").any()
    assert read_mask(out / "labeled/masks/b.png").any()


def test_inconsistency_is_no_class_of_a_data_set(save_json, pictures, write):
    content = coco(SQUARE, categories=("cat", "inconsistency"))
    mark = {"id": 9, "image_id": 0, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}
    content["annotations"].append(mark)
    _, out = write(read("coco", save_json(content), images=pictures("a.png", "b.png")))
    assert read_card(out).classes == ("cat",)
    mask = read_mask(out / "labeled" / "masks" / "a.png")
    np.testing.assert_array_equal(mask, square() * 255)


@pytest.mark.parametrize("key", ["categories", "images"])
def test_coco_ids_that_stand_for_two_things(save_json, pictures, key):
    content = coco(SQUARE, categories=("cat", "dog"))
    content[key][1]["id"] = 0
    with pytest.raises(UserError, match=f"two {key} have one id"):
        read("coco", save_json(content), images=pictures("a.png", "b.png"))


def test_background_drawn_on_top_is_a_hole_of_binary_masks(save_json, pictures, write):
    images = pictures("a.png")
    hole = {"label": "_background_", "points": [[3, 2], [5, 2], [5, 3], [3, 3]]}
    shapes = [{"label": "cell", "points": SQUARE_POINTS}, hole]
    save_json({"shapes": shapes, "imagePath": "a.png"}, "images/a.json")
    _, out = write(read("labelme", images))
    expected = square()
    expected[2, 3:5] = 0
    np.testing.assert_array_equal(read_mask(out / "labeled/masks/a.png"), expected * 255)


def test_labelme_in_sub_folders(save_json, pictures, write):
    images = pictures("x/a.png", "y/a.png", "z/a.png")
    for name in "xy":
        shapes = [{"label": "cell", "points": SQUARE_POINTS[: 3 + (name == "y")]}]
        save_json({"shapes": shapes, "imagePath": "a.png"}, f"images/{name}/a.json")
    save_json({}, "images/.out.importing/import.json")
    report, out = write(read("labelme", images))
    assert report.counts == {"labeled": 2, "unlabeled": 1}
    np.testing.assert_array_equal(read_mask(out / "labeled/masks/y__a.png"), square() * 255)
    assert (read_mask(out / "labeled/masks/x__a.png") != square() * 255).any()
    # the same, with the JSON files in a tree of their own
    for name in "xy":
        (images / name / "a.json").rename(save_json({}, f"json/{name}/a.json"))
    report, _ = write(read("labelme", images.parent / "json", images=images), out="apart")
    assert report.counts == {"labeled": 2, "unlabeled": 1}


def test_labelme_bitmaps_of_colours(save_json, pictures, write):
    file = io.BytesIO()
    Image.fromarray(np.full((2, 2, 4), 255, np.uint8)).save(file, "PNG")
    bitmap = base64.b64encode(file.getvalue()).decode()
    shape = {"label": "cell", "points": [[0, 0]], "shape_type": "mask", "mask": bitmap}
    images = pictures("a.png", "b.png")
    save_json({"shapes": [shape], "imagePath": "a.png"}, "images/a.json")
    good = {"label": "cell", "points": SQUARE_POINTS}
    save_json({"shapes": [good], "imagePath": "b.png"}, "images/b.json")
    report, _ = write(read("labelme", images))
    assert "mode RGBA" in dict(report.skipped)["a.png"]
    assert report.counts == {"labeled": 1}


def test_label_studio_points_odd_bytes_and_folders(save_json, pictures, write):
    def task(place, kind, **value):
        size = {"original_width": 10, "original_height": 8}
        region = {"type": kind, "value": {**value, kind: ["cell"]}, **size}
        return {"data": {"image": place}, "annotations": [{"result": [region]}]}

    corners = [[20, 12.5], [60, 12.5], [60, 50], [20, 50]]
    tasks = [
        task("/data/local-files/?d=set/x/a.png", "polygonlabels", points=corners),
        task("/data/local-files/?d=set/y/a.png", "keypointlabels", x=1, y=1, width=0.5),
        task("s3://bucket/b.png", "brushlabels", format="rle", rle=[0, 300]),
    ]
    images = pictures("x/a.png", "y/a.png", "b.png")
    report, out = write(read("labelstudio", save_json(tasks), images=images))
    assert "brush mask of b.png is damaged" in dict(report.skipped)["b.png"]
    assert report.notes == ("1 shapes left out: keypointlabels have no area.",)
    np.testing.assert_array_equal(read_mask(out / "labeled/masks/x__a.png"), square() * 255)
    assert not read_mask(out / "labeled/masks/y__a.png").any()


XML = """<?xml version="1.0" encoding="{encoding}"?>{more}<annotations>
<meta><task><labels><label><name>cell</name></label></labels></task></meta>
<image id="0" name="a.png" width="10" height="8">{shape}</image>
<image id="1" name="b.png" width="10" height="8">
<polygon label="cell" points="2,1;6,1;6,4;2,4"/></image></annotations>"""


def cvat(encoding="utf-8", more="", shape=""):
    return XML.format(encoding=encoding, more=more, shape=shape)


@pytest.mark.parametrize(
    "text",
    [
        cvat(encoding="martian"),
        cvat(encoding="shift_jis"),
        cvat(more='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hosts">]>', shape="<x>&x;</x>"),
        # a billion laughs
        cvat(
            more='<!DOCTYPE a [<!ENTITY e0 "ha">'
            + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
            + "]>",
            shape="<x>&e9;</x>",
        ),
    ],
)
def test_xml_that_is_no_plain_file(tmp_path, pictures, text):
    pictures("a.png", "b.png")
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(UserError, match="is no valid XML"):
        read("cvat", tmp_path)


@pytest.mark.parametrize(
    ("side", "rle"), [(2_000_000, "0, 4000000000000"), (-2, "0, 4"), (2, "0, -4, 8")]
)
def test_cvat_masks_of_impossible_sizes(tmp_path, pictures, write, side, rle):
    pictures("a.png", "b.png")
    box = f'label="cell" left="0" top="0" width="{side}" height="{side}"'
    (tmp_path / "annotations.xml").write_text(cvat(shape=f'<mask {box} rle="{rle}"/>'))
    report, _ = write(read("cvat", tmp_path))
    assert "a mask is damaged" in dict(report.skipped)["a.png"]
    assert report.counts == {"labeled": 1}


@pytest.fixture
def colored(pictures):
    """Colour-coded masks of two images in a sub-folder, as CVAT's segmentation masks have them."""
    root = pictures("s/a.png", "s/b.png", folder="export/JPEGImages").parent
    colors = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    for name in ("a", "b"):
        path = root / "SegmentationClass" / "s" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, colors[square()])
    (root / "labelmap.txt").write_text("background:0,0,0::\ncell:255,0,0::\ndirt:0,0,255::\n")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    return root


def test_lists_of_images_in_sub_folders(colored, write):
    lists = colored / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("s/a\nlost\n")
    (lists / "test.txt").write_text("s/b\n")
    report, _ = write(read("cvat", colored))
    assert report.counts == {"labeled": 1, "test": 1}
    assert [name for name, _ in report.skipped] == ["lost"]
    (lists / "test.txt").write_text("s/b\ns/a\n")
    with pytest.raises(UserError, match=r"s/a stands in two lists.*test\.txt, train\.txt"):
        read("cvat", colored)
    (lists / "test.txt").write_bytes(b"\xe9\n")
    with pytest.raises(UserError, match=r"test\.txt is no text in UTF-8"):
        read("cvat", colored)


def test_one_class_of_a_palette_is_a_binary_task(colored, write):
    source = {"images": colored / "JPEGImages", "masks": colored / "SegmentationClass"}
    palette = colored / "labelmap.txt"
    _, out = write(read("palette", colored, palette=palette, classes=("cell",), **source))
    card = read_card(out)
    assert (card.task, card.classes, card.ignore) == ("binary", ("cell",), None)
    np.testing.assert_array_equal(read_mask(out / "labeled/masks/s__a.png"), square() * 255)
    palette.write_bytes(b"\xe9,0,0,0\n")
    with pytest.raises(UserError, match="is no text in UTF-8"):
        read("palette", colored, palette=palette, **source)


def test_a_table_with_a_column_without_a_name(tmp_path, pictures, write):
    pictures("a.png", "b.png")
    write_png(tmp_path / "m.png", square())
    write_png(tmp_path / "other.png", 1 - square())
    table = tmp_path / "list.csv"
    table.write_text(",image,mask,more\n0,images/a.png,m.png,other.png\n1,images/b.png,,\n")
    report, out = write(read("table", table))
    assert report.counts == {"labeled": 1, "unlabeled": 1}
    assert (out / "labeled/masks/a.png").read_bytes() == (tmp_path / "m.png").read_bytes()
    table.write_text("image,mask,mask\nimages/a.png,m.png,other.png\n")
    with pytest.raises(UserError, match="columns of one name"):
        read("table", table)
    table.write_text("image,mask/x,mask/y\nimages/a.png,m.png,other.png\n")
    with pytest.raises(UserError, match="masks may overlap"):
        read("table", table, task="binary")


def test_splits_that_contradict_themselves(tmp_path, colored, write):
    source = read("cvat", colored)
    path = tmp_path / "splits.csv"
    path.write_text("name,split\ns__a,test\ns__a.png,labeled\n")
    with pytest.raises(UserError, match="gives s__a two splits"):
        write(source, given=path)
    path.write_bytes(b"name,split\n\xe9,test\n")
    with pytest.raises(UserError, match="is no CSV file"):
        write(source, given=path)
    path.write_text("")
    with pytest.raises(UserError, match="lacks a column"):
        write(source, given=path)


def test_two_processes_do_not_write_one_folder(tmp_path, colored, write):
    source = read("cvat", colored)
    hidden = tmp_path / ".out.importing"
    hidden.mkdir()
    with (
        FileLock(hidden / ".lock"),
        pytest.raises(UserError, match="is being prepared by another process"),
    ):
        write(source)
    write(source)
    assert len(open_dataset(tmp_path / "out").splits["labeled"]) == 1
