from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imasks.data.card import IGNORE, Card, encode_mask, read_card, read_labels, write_card
from imasks.data.files import UnreadableFile
from imasks.errors import UserError


def _write(folder: Path, text: str) -> Path:
    path = folder / "dataset.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_minimal_card_takes_the_folders_name(tmp_path):
    card = read_card(_write(tmp_path, 'task = "binary"\nclasses = ["lesion"]'))
    assert card == Card(name=tmp_path.name, task="binary", classes=("lesion",))


def test_card_round_trip(tmp_path):
    card = Card(
        name="Zellen",
        task="multilabel",
        classes=("a b", "ü"),
        size=(208, 416),
        channels=1,
        ignore=255,
        fit="tile",
        free_rotation=False,
        colors=("#ff0000", "#00ff00"),
        width=0.5,
        ladder="hela",
        points=("ü",),
        weights=(1.0, 3.0),
    )
    write_card(card, tmp_path / "dataset.toml")
    assert read_card(tmp_path) == card


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("chanels = 3", ["chanels", "channels"]),
        ('channels = "3"', ["channels", "an integer"]),
        ("channels = 65", ["channels", "from 1 to 64"]),
        ('pages = "layers"', ["pages", "channels"]),
        ("channels = true", ["channels", "an integer"]),
        ("size = [256]", ["size", "[height, width]"]),
        ("size = [0, 16]", ["size", "positive"]),
        ("ignore = 0", ["ignore", "from 1 to"]),
        ("ignore = 70000", ["ignore", "65535"]),
        ('fit = "tiles"', ["fit", "did you mean 'tile'"]),
        ('free_rotation = "yes"', ["free_rotation", "true or false"]),
        ('colors = ["red"]', ["colors", "#rrggbb"]),
        ('colors = ["#000000", "#ffffff"]', ["colors", "1 colours"]),
        ("width = 0", ["width", "0.0625"]),
        ('points = ["lesion"]', ["points", "task is multilabel"]),
        ('scored = ["lesion"]', ["scored", "task is multiclass"]),
        ("weights = [3]", ["weights", "multilabel"]),
        ("ladder = 3", ["ladder", "a string"]),
        ('width = "wide"', ["width", "a number"]),
        ("= 3", ["TOML"]),
    ],
)
def test_wrong_values_are_named(tmp_path, line, words):
    path = _write(tmp_path, f'task = "binary"\nclasses = ["lesion"]\n{line}')
    with pytest.raises(UserError) as caught:
        read_card(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("task", "classes", "word"),
    [
        ("binari", ["a"], "did you mean 'binary'"),
        ("binary", [], "at least one"),
        ("binary", [" "], "at least one"),
        ("binary", ["a", "b"], "exactly one"),
        ("multiclass", ["a", "a"], "different"),
        ("multiclass", [f"c{n}" for n in range(251)], "at most 250"),
        ("multilabel", ["a/b"], "folders"),
    ],
)
def test_wrong_classes(task, classes, word):
    with pytest.raises(UserError, match=word):
        Card(name="x", task=task, classes=tuple(classes))


def test_missing_keys_and_missing_file(tmp_path):
    with pytest.raises(UserError, match="imasks init"):
        read_card(tmp_path / "dataset.toml")
    with pytest.raises(UserError, match="'classes' is missing"):
        read_card(_write(tmp_path, 'task = "binary"'))


BINARY = Card(name="b", task="binary", classes=("x",), ignore=7)
MANY = Card(name="m", task="multiclass", classes=("a", "b", "c"), ignore=7)
LABELS = Card(name="l", task="multilabel", classes=("a", "b"))


@given(hnp.arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 1, 2, 7])))
def test_encoding_keeps_every_pixels_meaning(mask):
    binary = encode_mask([mask], BINARY)
    assert binary.dtype == np.uint8
    assert binary.shape == (1, 5, 4)
    np.testing.assert_array_equal(binary[0] == IGNORE, mask == 7)
    np.testing.assert_array_equal(binary[0] == 1, (mask != 0) & (mask != 7))

    many = encode_mask([mask], MANY)[0]
    np.testing.assert_array_equal(many[mask != 7], mask[mask != 7] + 1)
    assert (many[mask == 7] == IGNORE).all()
    assert not (many == 0).any()

    planes = encode_mask([mask, 1 - np.minimum(mask, 1)], LABELS)
    assert planes.shape == (2, 5, 4)
    assert (planes.sum(0) == 1).all()


def test_encoding_of_16_bits_and_of_an_ignored_class():
    card = Card(name="m", task="multiclass", classes=("void", "b"), ignore=0)
    assert encode_mask([np.array([[0, 1]], np.uint16)], card).tolist() == [[[255, 2]]]
    card = Card(name="b", task="binary", classes=("b",), ignore=65535)
    assert encode_mask([np.array([[0, 256, 65535]], np.uint16)], card).tolist() == [[[0, 1, 255]]]


def test_unknown_ids_are_named():
    with pytest.raises(UnreadableFile, match=r"m\.png.*found: 3, 9.*0 to 2.*\(7\)"):
        encode_mask([np.array([[0, 3, 9, 7]], np.uint8)], MANY, source=Path("m.png"))


def test_labels_compare_size_and_distrust_lossy_masks(tmp_path):
    path = tmp_path / "m.jpg"
    values = np.zeros((16, 16), np.uint8)
    values[4:12, 4:12] = 255
    Image.fromarray(values).save(path, quality=50)
    exact = Card(name="b", task="binary", classes=("x",))
    labels = read_labels([path], exact, (16, 16))
    assert set(np.unique(labels)) == {0, 1}
    assert abs(int(labels.sum()) - 64) <= 8
    for card in (MANY, BINARY):
        with pytest.raises(UnreadableFile, match=r"with loss.*PNG"):
            read_labels([path], card, (16, 16))
    with pytest.raises(UnreadableFile, match=r"mask \(16, 16\), image \(8, 16\)"):
        read_labels([path], exact, (8, 16))


def test_points_weights_and_scored_classes_are_checked():
    both = {"name": "x", "classes": ("a", "b")}
    for wrong in ({"points": ("c",)}, {"points": ("a", "a")}, {"weights": (1.0, 0.0)}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Card(task="multilabel", **both, **wrong)
    with pytest.raises(UserError, match="some of a, b, each once"):
        Card(task="multiclass", scored=("c",), **both)
    assert Card(task="multilabel", weights=(1.0, 3.0), points=("b",), **both).weights == (1.0, 3.0)


def test_whole_weights_are_numbers(tmp_path):
    text = 'task = "multilabel"\nclasses = ["a", "b"]\nweights = [1, 3]'
    assert read_card(_write(tmp_path, text)).weights == (1.0, 3.0)
