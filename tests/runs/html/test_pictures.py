import base64
import io

import numpy as np
import pytest
from PIL import Image

from imasks.runs.colors import default_colors
from imasks.runs.html.pictures import LONGEST, Album, label_picture, mask_picture, photo
from imasks.tasks import IGNORE, make_task


def opened(uri):
    head, content = uri.split(",")
    assert head.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def rgba(uri):
    return np.array(opened(uri).convert("RGBA"))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_photos_are_shrunk_and_keep_their_shape(channels):
    picture = opened(photo(np.full((640, 320, channels), 200, np.uint8)))
    assert picture.format == "WEBP"
    assert picture.size == (LONGEST // 2, LONGEST)
    assert np.abs(np.array(picture.convert("RGB")).astype(int) - 200).max() < 6


def test_small_photos_keep_their_size():
    assert opened(photo(np.zeros((32, 48, 3), np.uint8))).size == (48, 32)


def test_classes_have_their_colours_and_the_rest_is_transparent():
    task, colors = make_task("multiclass", ["a", "b"]), default_colors(2)
    labels = np.array([[[0, 1], [2, IGNORE]]], np.uint8)
    found = rgba(label_picture(labels, task, colors))
    assert found[0, 0, 3] == 0
    assert found[0, 1].tolist() == [*colors[0].tolist(), 255]
    assert found[1, 0].tolist() == [*colors[1].tolist(), 255]
    assert found[1, 1].tolist() == [128, 128, 128, 255]


def test_of_overlapping_classes_the_smaller_is_seen():
    task, colors = make_task("multilabel", ["nucleus", "cell"]), default_colors(2)
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[1] = 1
    labels[0, 1, 1] = 1
    found = rgba(label_picture(labels, task, colors))
    assert found[1, 1, :3].tolist() == colors[0].tolist()
    assert found[0, 0, :3].tolist() == colors[1].tolist()


def test_masks_are_black_where_they_are():
    region = np.zeros((3, 5), np.bool_)
    region[1, 2] = True
    found = rgba(mask_picture(region))
    assert (found[..., 3] == region * 255).all()
    assert found[1, 2].tolist() == [0, 0, 0, 255]


def test_an_album_takes_all_or_nothing():
    album = Album(budget=10)
    assert album.add("aaa", "bbb") == [0, 1]
    assert album.add("cc", "ddd") is None
    assert album.add("cccc") == [2]
    assert (album.uris, album.size) == (["aaa", "bbb", "cccc"], 10)
