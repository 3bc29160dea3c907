from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imasks.data.card import Card, write_card
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation
from imasks.exchange.folder import Shares, write_folder
from imasks.exchange.labelled import About, Labelled
from imasks.runs.deciding import Prediction
from imasks.tasks import make_task

CARDS = {
    "binary": Card(name="cells", task="binary", classes=("cell",)),
    "multiclass": Card(name="reef", task="multiclass", classes=("sea", "fish", "sand"), ignore=255),
    "background": Card(
        name="town", task="multiclass", classes=("background", "road", "house"), ignore=255
    ),
    "multilabel": Card(name="blood", task="multilabel", classes=("cell", "nucleus"), ignore=255),
}
SIZE = (17, 23)


def random_masks(card, rng, size=SIZE):
    """Blotches in the encoding of `Prediction.mask`, and an inconsistency mask."""

    def blotches(levels):
        coarse = rng.integers(0, levels, (size[0] // 4 + 1, size[1] // 4 + 1), np.uint8)
        return coarse.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]

    if card.task == "multilabel":
        mask = np.stack([blotches(2) for _ in card.classes])
    else:
        mask = blotches(max(2, len(card.classes)))
    return mask, rng.random(size) < 0.1


@pytest.fixture
def make_data(tmp_path):
    """Write a data folder of a card: 3 labeled, 2 val and `unlabeled` unlabeled images."""

    def make(card, unlabeled=3):
        folder = tmp_path / "data"
        rng = np.random.default_rng(0)
        for split, count in (("labeled", 3), ("val", 2), ("unlabeled", unlabeled)):
            (folder / split / "images").mkdir(parents=True)
            for i in range(count):
                name = f"{split[0]} {i}.png"
                write_png(
                    folder / split / "images" / name, rng.integers(0, 256, (*SIZE, 3), np.uint8)
                )
                mask, _ = random_masks(card, rng)
                planes = mask if card.task == "multilabel" else mask[None]
                subs = card.classes if card.task == "multilabel" else (".",)
                for sub, plane in zip(subs, planes, strict=True):
                    path = folder / split / "masks" / sub
                    if split != "unlabeled":
                        path.mkdir(parents=True, exist_ok=True)
                        write_png(path / name, plane)
        write_card(card, folder / "dataset.toml")
        return folder

    return make


@pytest.fixture
def labelled():
    """Predict the unlabeled images of a data folder by chance."""

    def make(folder, quality=0.75):
        dataset = open_dataset(folder)
        card = dataset.card
        rng = np.random.default_rng(1)
        prep = Preparation(
            size=(16, 16), channels=3, fit="resize", levels=None, native=SIZE, largest=SIZE
        )
        about = About(
            dataset=dataset,
            task=make_task(card.task, card.classes),
            preparation=prep,
            model="imasks IM, seed 0",
            version="0",
        )
        found = []
        for sample in dataset.splits["unlabeled"]:
            mask, im = random_masks(card, rng)
            prediction = Prediction(
                mask=mask,
                im=im,
                agreement=1 - float(im.mean()),
                im_share=float(im.mean()),
                confidence=0.9,
                areas={},
                quality=quality,
            )
            found.append(Labelled(sample=sample, prediction=prediction))
        # one image on which nothing is found and all agree
        empty = replace(found[0].prediction, mask=mask * 0, im=im & False, quality=None)
        found[0] = replace(found[0], prediction=empty)
        return about, found

    return make


@pytest.fixture
def pictures(tmp_path):
    """Save random colour images by name and return their folder."""

    def save(*names, folder="images", size=(8, 10)):
        rng = np.random.default_rng(len(names))
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
        return tmp_path / folder

    return save


@pytest.fixture
def write(tmp_path):
    """Write a source as a data folder."""

    def run(source, out="out", **shares):
        report = write_folder(tmp_path / out, source, Shares(**shares))
        return report, tmp_path / out

    return run
