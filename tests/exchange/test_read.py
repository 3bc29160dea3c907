"""Foreign data sets become data folders; what is wrong with them is said or counted."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from imasks.data.card import read_card
from imasks.data.check import check_folder
from imasks.data.files import read_mask, write_png
from imasks.errors import UserError
from imasks.exchange.registry import find_format
from imasks.exchange.source import ReadOptions

SIZE = (8, 10)


def read(name, source, **options):
    return find_format(name, "read").read(source, ReadOptions(**options))


def mask_of(out, name, split="labeled", sub="."):
    return read_mask(out / split / "masks" / sub / f"{name}.png")


def box(top, left, bottom, right):
    pixels = np.zeros(SIZE, np.uint8)
    pixels[top:bottom, left:right] = 1
    return pixels


def runs_down(pixels):
    """COCO's uncompressed runs, written the slow way."""
    counts, value = [0], 0
    for one in pixels.T.ravel().tolist():
        if one == value:
            counts[-1] += 1
        else:
            counts.append(1)
            value = one
    return {"size": list(pixels.shape), "counts": counts}


def coco(annotations, names=("a.png", "b.png", "c.png"), categories=("cat", "dog")):
    H, W = SIZE
    return {
        "images": [
            {"id": 10 + i, "file_name": name, "height": H, "width": W}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(categories)],
        "annotations": [{"id": i, "iscrowd": 0, **one} for i, one in enumerate(annotations)],
    }


SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]  # x from 2 to 6, y from 1 to 4


@pytest.fixture
def coco_file(tmp_path):
    def write(*annotations, **more):
        path = tmp_path / "animals.json"
        path.write_text(json.dumps(coco(annotations, **more)))
        return path

    return write


def test_coco_polygons_runs_and_crowds(coco_file, pictures, write):
    from pycocotools import mask as coco_masks

    rle = coco_masks.encode(np.asfortranarray(box(0, 0, 8, 3)))
    path = coco_file(
        {"image_id": 10, "category_id": 7, "segmentation": [SQUARE]},
        {"image_id": 10, "category_id": 8, "segmentation": runs_down(box(3, 5, 7, 9))},
        {
            "image_id": 11,
            "category_id": 8,
            "iscrowd": 1,
            "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()},
        },
        {"image_id": 11, "category_id": 7, "bbox": [0, 0, 3, 3]},
    )
    images = pictures("a.png", "b.png", "c.png", "d.png")
    report, out = write(read("coco", path, images=images))
    card = read_card(out)
    assert (card.name, card.task) == ("animals", "multiclass")
    assert card.classes == ("background", "cat", "dog")
    assert report.counts == {"labeled": 2, "unlabeled": 2}
    expected = box(1, 2, 4, 6)
    expected[3:7, 5:9] = 2  # the later one lies on top
    np.testing.assert_array_equal(mask_of(out, "a"), expected)
    np.testing.assert_array_equal(mask_of(out, "b"), box(0, 0, 8, 3) * 2)
    assert report.notes == (
        "1 shapes left out: without a segmentation, only a box.",
        "1 images have pixels with several classes; there, the shape on top counts.",
    )
    assert check_folder(out).ok

    _, out = write(read("coco", path, images=images, crowd="ignore"), out="second")
    assert (mask_of(out, "b") == box(0, 0, 8, 3) * 255).all()
    assert read_card(out).ignore == 255


def test_coco_classes_and_tasks(coco_file, pictures, write):
    path = coco_file(
        {"image_id": 10, "category_id": 7, "segmentation": [SQUARE]},
        {"image_id": 10, "category_id": 8, "segmentation": runs_down(box(0, 0, 8, 3))},
        {"image_id": 11, "category_id": 8, "segmentation": [SQUARE]},
    )
    images = pictures("a.png", "b.png", "c.png")
    report, out = write(read("coco", path, images=images, classes=("cat",)))
    assert read_card(out).classes == ("cat",)
    assert (mask_of(out, "a") == box(1, 2, 4, 6) * 255).all()
    assert report.notes == ("2 shapes left out: of other classes than those asked for.",)
    assert report.counts == {"labeled": 1, "unlabeled": 2}
    _, out = write(read("coco", path, images=images, task="multilabel", empty=True), out="planes")
    assert (mask_of(out, "a", sub="cat") == box(1, 2, 4, 6) * 255).all()
    assert (mask_of(out, "a", sub="dog") == box(0, 0, 8, 3) * 255).all()
    assert not mask_of(out, "c", sub="dog").any()
    _, out = write(read("coco", path, images=images, task="binary"), out="all")
    assert read_card(out).classes == ("foreground",)
    assert (mask_of(out, "a") > 0).sum() == (box(1, 2, 4, 6) | box(0, 0, 8, 3)).sum()


def test_coco_shapes_outside_are_cut_or_counted(coco_file, pictures, write):
    far = [20, 20, 30, 20, 30, 30]
    over = [-5, -5, 3, -5, 3, 3, -5, 3]
    path = coco_file(
        {"image_id": 10, "category_id": 7, "segmentation": [over]},
        {"image_id": 10, "category_id": 7, "segmentation": [far]},
        categories=("cat",),
    )
    report, out = write(read("coco", path, images=pictures("a.png", "b.png", "c.png")))
    assert (mask_of(out, "a") == box(0, 0, 3, 3) * 255).all()
    assert report.notes == (
        "1 shapes reached beyond their image and were cut at its edge.",
        "1 shapes covered no pixel, as they lie outside of their image or are too small.",
    )


def test_coco_images_that_are_missing_or_of_another_size_are_counted(coco_file, pictures, write):
    path = coco_file(
        *({"image_id": 10 + i, "category_id": 7, "segmentation": [SQUARE]} for i in range(3))
    )
    images = pictures("a.png")
    pictures("b.png", size=(9, 9))
    report, _ = write(read("coco", path, images=images))
    assert report.counts == {"labeled": 1}
    reasons = dict(report.skipped)
    assert "no such image" in reasons["c.png"]
    assert "another size (annotated (8, 10), image (9, 9); height first)" in reasons["b.png"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 99}, r"animals\.json: annotation 0 .*unknown image.*image_id 99"),
        ({"category_id": 1}, r"animals\.json: annotation 0 .*unknown category.*category_id 1"),
        ({"segmentation": [[1, 2, 3]]}, r"not in the form of COCO"),
        ({"segmentation": 5}, r"not in the form of COCO"),
    ],
)
def test_coco_that_contradicts_itself(coco_file, pictures, change, says):
    one = {"image_id": 10, "category_id": 7, "segmentation": [SQUARE], **change}
    with pytest.raises(UserError, match=says):
        read("coco", coco_file(one), images=pictures("a.png"))


@pytest.mark.parametrize(
    "counts", [[3, 2], [100, -20], "", "000000", "abc$", "PPYo0", [79.5, 0.5], "~" * 40]
)
def test_coco_runs_that_do_not_fill_the_image(coco_file, pictures, write, counts):
    runs = {"size": list(SIZE), "counts": counts}
    path = coco_file(
        {"image_id": 10, "category_id": 7, "segmentation": runs},
        {"image_id": 11, "category_id": 7, "segmentation": [SQUARE]},
    )
    report, _ = write(read("coco", path, images=pictures("a.png", "b.png")))
    assert "a.png" in dict(report.skipped)
    assert report.counts == {"labeled": 1}


def test_names_lose_all_of_an_ending(coco_file, pictures, write):
    import tifffile

    one = {"image_id": 10, "category_id": 7, "segmentation": [SQUARE]}
    images = pictures("d.png")
    tifffile.imwrite(images / "a.ome.tif", np.zeros(SIZE, np.uint8))
    path = coco_file(one, {**one, "image_id": 11}, names=("a.ome.tif", "d.png"))
    _, out = write(read("coco", path, images=images))
    assert sorted(path.name for path in (out / "labeled" / "masks").iterdir()) == ["a.png", "d.png"]
    assert (out / "labeled" / "images" / "a.tif").exists()


def test_broken_files_and_wrong_wishes(tmp_path, coco_file, pictures):
    images = pictures("a.png")
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"broken\.json is no valid JSON"):
        read("coco", tmp_path / "broken.json", images=images)
    (tmp_path / "other.json").write_text('["x"]')
    with pytest.raises(UserError, match=r"other\.json is not in the form of COCO"):
        read("coco", tmp_path / "other.json", images=images)
    with pytest.raises(UserError, match="not a file"):
        read("coco", tmp_path / "none.json", images=images)
    one = {"image_id": 10, "category_id": 7, "segmentation": [SQUARE]}
    with pytest.raises(UserError, match=r"no class of this name.*horse.*cat, dog"):
        read("coco", coco_file(one), images=images, classes=("horse",))
    with pytest.raises(UserError, match="class or ignore"):
        read("coco", coco_file(one), images=images, crowd="drop")
    with pytest.raises(UserError, match=r"no image named in .* lies in"):
        read("coco", coco_file(one), images=pictures("z.png", folder="others"))
    with pytest.raises(UserError, match=r"several images in .* are called alike.*x/a.png, y/a.png"):
        read("coco", coco_file(one), images=pictures("x/a.png", "y/a.png", folder="twice"))


def png64(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


BITMAP = png64(np.ones((2, 2), np.uint8))


def test_labelme(tmp_path, pictures, write):
    folder = pictures("a.png", "b.png", "c.png", folder="labelme")
    shapes = [
        {"label": "cell", "points": [[2, 1], [6, 1], [6, 4], [2, 4]], "shape_type": "polygon"},
        {"label": "cell", "points": [[9, 7], [7, 5]], "shape_type": "rectangle"},
        {"label": "cell", "points": [[0, 6], [1, 7]], "shape_type": "mask", "mask": BITMAP},
        {"label": "cell", "points": [[0, 0], [1, 1]], "shape_type": "line"},
    ]  # fmt: skip
    content = {"shapes": shapes, "imagePath": "..\\x\\a.png", "imageHeight": 8, "imageWidth": 10}
    (folder / "a.json").write_text(json.dumps(content))
    (folder / "b.json").write_text(json.dumps({**content, "shapes": [], "imagePath": "b.png"}))
    report, out = write(read("labelme", folder))
    expected = box(1, 2, 4, 6) | box(5, 7, 7, 9) | box(6, 0, 8, 2)
    np.testing.assert_array_equal(mask_of(out, "a"), expected * 255)
    assert report.notes == ("1 shapes left out: a line has no area.",)
    assert report.counts == {"labeled": 1, "unlabeled": 2}
    assert read_card(out).classes == ("cell",)

    circle = {"label": "big", "points": [[5, 4], [8, 4]], "shape_type": "circle"}
    void = {**circle, "label": "__ignore__", "points": [[0, 7], [1, 8]], "shape_type": "rectangle"}
    (folder / "c.json").write_text(json.dumps({"shapes": [circle, void], "imagePath": "c.png"}))
    _, out = write(read("labelme", folder), out="two")
    assert read_card(out).classes == ("background", "big", "cell")
    assert mask_of(out, "c")[7, 0] == 255
    y, x = np.mgrid[:8, :10] + 0.5
    disk = (x - 5) ** 2 + (y - 4) ** 2 < 9
    assert ((mask_of(out, "c") == 1) ^ disk).sum() <= 4  # a polygon of many corners

    (folder / "c.json").write_text(json.dumps({"shapes": [{"label": "x"}], "imagePath": "c.png"}))
    with pytest.raises(UserError, match=r"c\.json is not in the form of Labelme.*points"):
        read("labelme", folder)
    with pytest.raises(UserError, match="no JSON"):
        read("labelme", pictures("a.png"))


def test_palette_given_and_found(tmp_path, pictures, write):
    images = pictures("a.png", "b.png", "c.png", "d.png", folder="set/images")
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    ids = box(1, 1, 4, 4) + 2 * box(5, 5, 8, 8)
    masks = images.parent / "masks"
    masks.mkdir()
    write_png(masks / "a.png", colors[ids])
    write_png(masks / "b_mask.png", colors[2 - ids])
    write_png(masks / "z.png", colors[ids])
    report, out = write(read("palette", images.parent))
    card = read_card(out)
    assert card.classes == ("background", "#0000ff", "#ff0000")
    assert card.colors == ("#000000", "#0000ff", "#ff0000")
    np.testing.assert_array_equal(mask_of(out, "a"), np.array([0, 2, 1])[ids])
    assert [name for name, _ in report.skipped] == ["z.png"]
    assert report.counts == {"labeled": 2, "unlabeled": 2}

    palette = tmp_path / "palette.csv"
    palette.write_text("name,red,green,blue\nsea,0,0,0\nvoid,255,0,0\nfish,0,0,255\n")
    _, out = write(read("palette", images.parent, palette=palette), out="given")
    assert read_card(out).classes == ("sea", "fish")
    np.testing.assert_array_equal(mask_of(out, "a"), np.array([0, 255, 1])[ids])

    palette.write_text("sea,0,0,0\nfish,0,0,255\n")
    write_png(masks / "c.png", colors[0 * ids])
    report, _ = write(
        read("palette", images.parent, palette=palette, task="multiclass"), out="less"
    )
    assert "colours that the palette lacks (#ff0000)" in dict(report.skipped)["a.png"]
    (masks / "c.png").unlink()
    palette.write_text("sea,0,0,0\nfish,0,0\n")
    with pytest.raises(UserError, match=r"palette\.csv: a line names no class.*fish,0,0"):
        read("palette", images.parent, palette=palette)
    palette.write_text("sea,0,0,0\nfish,0,0,0\n")
    with pytest.raises(UserError, match=r"two classes have one colour.*sea, fish"):
        read("palette", images.parent, palette=palette)
    Image.fromarray(colors[ids]).save(masks / "c.jpg")
    with pytest.raises(UserError, match=r"c\.jpg is compressed with loss"):
        read("palette", images.parent)


def test_instances_are_merged(pictures, write):
    pictures("x/images/x.png", "y/images/y.png", "z/images/z.png", folder="stage1")
    root = pictures(folder="stage1")
    for name, pixels in (("1", box(0, 0, 3, 3)), ("2", box(4, 4, 8, 8))):
        path = root / "x" / "masks" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(path, pixels * np.uint8(255))
    (root / "y" / "masks").mkdir()
    report, out = write(read("instances", root, classes=("nucleus",)))
    assert (mask_of(out, "x") == (box(0, 0, 3, 3) | box(4, 4, 8, 8)) * 255).all()
    assert report.counts == {"labeled": 1, "unlabeled": 2}
    report, _ = write(read("instances", root, empty=True), out="empty")
    assert report.counts == {"labeled": 2, "unlabeled": 1}
    write_png(root / "y" / "masks" / "1.png", np.ones((3, 3), np.uint8))
    report, _ = write(read("instances", root), out="size")
    assert "differs in size" in dict(report.skipped)["y.png"]
    with pytest.raises(UserError, match="no classes in this layout"):
        read("instances", root, task="multiclass")
    pictures("x/images/second.png", folder="stage1")
    with pytest.raises(UserError, match="must hold one image"):
        read("instances", root)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cell</name></label><label><name>dirt</name></label></labels></task></meta>
<image id="0" name="a.png" subset="Validation" width="10" height="8">
  <mask label="dirt" rle="1, 2, 1, 2" left="7" top="6" width="3" height="2" z_order="1"></mask>
  <polygon label="cell" points="2,1;6,1;6,4;2,4" z_order="0"></polygon>
  <box label="cell" xtl="0" ytl="6" xbr="2" ybr="8" z_order="0"></box>
  <polyline label="cell" points="2,1;6,1"></polyline>
</image>
<image id="1" name="sub/b.png" subset="default" width="10" height="8">
  <ellipse label="dirt" cx="5" cy="4" rx="3" ry="2" rotation="90"></ellipse>
</image>
<image id="2" name="c.png" width="10" height="8"></image>
</annotations>
"""


def test_cvat_for_images(tmp_path, pictures, write):
    images = pictures("a.png", "sub/b.png", "c.png", folder="cvat/images")
    path = images.parent / "annotations.xml"
    path.write_text(CVAT)
    report, out = write(read("cvat", images.parent))
    assert read_card(out).classes == ("background", "cell", "dirt")
    assert report.counts == {"labeled": 1, "unlabeled": 1, "val": 1}
    expected = box(1, 2, 4, 6) | box(6, 0, 8, 2)
    expected[6, 8:10] = expected[7, 8:10] = 2
    np.testing.assert_array_equal(mask_of(out, "a", split="val"), expected)
    y, x = np.mgrid[:8, :10] + 0.5
    upright = ((x - 5) / 2) ** 2 + ((y - 4) / 3) ** 2 < 1
    assert ((mask_of(out, "sub__b") == 2) ^ upright).sum() <= 4
    assert report.notes == ("1 shapes left out: a polyline has no area.",)

    path.write_text(CVAT.replace('label="dirt" rle', 'label="Dirt" rle'))
    with pytest.raises(UserError, match=r"a\.png holds a label that is not declared.*Dirt"):
        read("cvat", path)
    path.write_text(CVAT.replace('rle="1, 2, 1, 2"', 'rle="1, 2, 1, 9"'))
    report, _ = write(read("cvat", path), out="damaged")
    assert "runs of 13 pixels in a mask of 2 x 3" in dict(report.skipped)["a.png"]
    path.write_text(CVAT[:200])
    with pytest.raises(UserError, match=r"annotations\.xml is no valid XML"):
        read("cvat", path)
    path.write_text("<annotations><track/></annotations>")
    with pytest.raises(UserError, match="videos"):
        read("cvat", path)
    with pytest.raises(UserError, match="Unpack the archive"):
        read("cvat", images)


def test_cvat_segmentation_masks(pictures, write):
    root = pictures("a.png", "b.png", "c.png", folder="export/JPEGImages").parent
    colors = np.array([[0, 0, 0], [250, 50, 83]], np.uint8)
    for name in ("a", "b"):
        path = root / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(path, colors[box(1, 1, 4, 4)])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:250,50,83::\n"
    )
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "test.txt").write_text("b\n")
    report, out = write(read("cvat", root))
    assert (mask_of(out, "a") == box(1, 1, 4, 4) * 255).all()
    assert report.counts == {"labeled": 1, "unlabeled": 1, "test": 1}
    assert read_card(out).classes == ("cell",)


def test_label_studio(tmp_path, pictures, write):
    from imasks.exchange.brush import encode_brush

    images = pictures("a.png", "b.png", "c.png", "d.png")

    def region(kind, **value):
        size = {"original_width": 10, "original_height": 8}
        return {"type": kind, "image_rotation": 0, "value": value, **size}

    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/2/0a1b2c3d-a.png"},
            "annotations": [
                {
                    "result": [
                        region(
                            "polygonlabels",
                            points=[[20, 12.5], [60, 12.5], [60, 50], [20, 50]],
                            polygonlabels=["cell"],
                        ),
                        region(
                            "rectanglelabels",
                            **{"x": 0, "y": 75, "width": 20, "height": 25, "rotation": 0},
                            rectanglelabels=["cell"],
                        ),
                        region(
                            "brushlabels",
                            format="rle",
                            rle=encode_brush(box(5, 7, 7, 9) > 0),
                            brushlabels=["dirt"],
                        ),
                        region("keypointlabels", x=1, y=1, keypointlabels=["cell"]),
                        {"type": "choices", "value": {"choices": ["good"]}},
                    ]
                }
            ],
        },
        {"data": {"image": "/data/local-files/?d=x%2Fb.png"}, "annotations": [{"result": []}]},
        {
            "data": {"image": "s3://bucket/c.png"},
            "annotations": [],
            "predictions": [{"result": [region("brushlabels", rle=[1], brushlabels=["cell"])]}],
        },
    ]  # fmt: skip
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    told = read("labelstudio", path, images=images, empty=True)  # nobody annotated c
    assert write(told, out="told")[0].counts == {"labeled": 2, "unlabeled": 2}
    report, out = write(read("labelstudio", path, images=images))
    expected = box(1, 2, 4, 6) | box(6, 0, 8, 2) | box(5, 7, 7, 9) * 2
    np.testing.assert_array_equal(mask_of(out, "a"), expected)
    assert not mask_of(out, "b").any()
    assert report.counts == {"labeled": 2, "unlabeled": 2}
    assert report.notes == ("1 shapes left out: keypointlabels have no area.",)

    tasks[0]["annotations"][0]["result"][2]["value"]["rle"] = [0, 0, 3]
    path.write_text(json.dumps(tasks))
    report, _ = write(read("labelstudio", path, images=images), out="damaged")
    assert "brush mask of a.png is damaged" in dict(report.skipped)["a.png"]
    del tasks[1]["data"]["image"]
    path.write_text(json.dumps(tasks))
    with pytest.raises(UserError, match=r"export\.json is not in the form of a Label Studio"):
        read("labelstudio", path, images=images)


def test_labelstudio_regions_of_several_labels_and_annotations_of_several_people(
    tmp_path, pictures, write
):
    images = pictures("a.png")
    size = {"original_width": 10, "original_height": 8, "image_rotation": 0}
    corners = {"points": [[20, 12.5], [60, 12.5], [60, 50], [20, 50]]}

    def annotated(*names, **more):
        value = {**corners, "polygonlabels": names}
        return {"result": [{"type": "polygonlabels", "value": value, **size}], **more}

    both = [annotated("cell"), annotated("cell", "dirt"), annotated("dust", was_cancelled=True)]
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": both}]))
    report, out = write(read("labelstudio", path, images=images, task="multilabel"))
    assert read_card(out).classes == ("cell", "dirt")
    assert not report.notes
    for name in ("cell", "dirt"):
        shown = read_mask(out / "labeled" / "masks" / name / "a.png") > 0
        np.testing.assert_array_equal(shown, box(1, 2, 4, 6) > 0)


def test_folders(pictures, write):
    images = pictures("a.png", "b.png", "c.png", folder="set/images")
    masks = images.parent / "masks"
    masks.mkdir()
    for name in ("a_mask", "b_mask", "lost"):
        write_png(masks / f"{name}.png", box(1, 1, 4, 4) * np.uint8(255))
    report, out = write(read("folders", images.parent, classes=("cell",)))
    assert report.counts == {"labeled": 2, "unlabeled": 1}
    assert [name for name, _ in report.skipped] == ["lost.png"]
    assert (out / "labeled/masks/a.png").read_bytes() == (masks / "a_mask.png").read_bytes()
    with pytest.raises(UserError, match="--masks"):
        read("folders", images.parent, masks=images / "none")


def test_label_studio_images_under_the_names_it_keeps_them_by(tmp_path, pictures, write):
    images = pictures("0a1b2c3d-a.png", "b.png")
    done = [{"result": []}]
    tasks = [
        {"data": {"image": f"/data/upload/2/{name}"}, "annotations": done}
        for name in ("0a1b2c3d-a.png", "4e5f6a7b-b.png")
    ]
    square = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["cell"]}
    size = {"original_width": 10, "original_height": 8}
    tasks[0]["annotations"] = [{"result": [{"type": "rectanglelabels", "value": square, **size}]}]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    report, out = write(read("labelstudio", path, images=images))
    np.testing.assert_array_equal(mask_of(out, "0a1b2c3d-a") > 0, box(0, 0, 4, 5) > 0)
    assert report.counts == {"labeled": 2}
    assert report.skipped == ()


def test_tables(tmp_path, pictures, write):
    pictures("a.png", "b.png", "c.png", folder="deep/images")
    for name in ("1", "2"):
        (tmp_path / "deep" / "m").mkdir(exist_ok=True)
        write_png(tmp_path / "deep" / "m" / f"{name}.png", box(1, 1, 4, 4) + box(2, 2, 5, 8))
    table = tmp_path / "deep" / "list.csv"
    table.write_text(
        "image,mask,split\nimages/a.png,m/1.png,train\nimages/b.png,m/2.png,valid\nimages/c.png,,\n"
    )
    report, out = write(read("table", table))
    assert report.counts == {"labeled": 1, "unlabeled": 1, "val": 1}
    assert read_card(out).classes == ("class_0", "class_1", "class_2")
    table.write_text("image,mask/cell,mask/nucleus\nimages/a.png,m/1.png,m/2.png\n")
    _, out = write(read("table", table, classes=("nucleus",)), out="planes")
    assert (read_card(out).task, read_card(out).classes) == ("multilabel", ("nucleus",))
    for text, says in (
        ("image,masks\nimages/a.png,m/1.png\n", "lacks a column"),
        ("image;mask\nimages/a.png;m/1.png\n", "image;mask.* with commas between them"),
        ("image,mask\nimages/x.png,m/1.png\n", r"line 2: a file is missing.*images/x\.png"),
        ("image,mask\nimages/a.png,m/9.png\n", r"line 2: a file is missing.*m/9\.png"),
        ("image,mask/a,mask/b\nimages/a.png,m/1.png,\n", r"line 2: some classes have no mask"),
        ("image,mask\nimages/a.png,m/1.png\nimages/a.png,m/1.png\n", "two images would be called"),
        ("image,mask\n", "holds no rows"),
        ("image,mask\nimages/a.png,\n", "names no masks"),
        ("image,mask\n,m/1.png\n", "line 2: there is no image"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=says):
            read("table", table)
    table.write_text("image,mask,split\nimages/a.png,m/1.png,holdout\n")
    with pytest.raises(UserError, match=r"split of a is unknown.*holdout"):
        write(read("table", table), out="never")
