"""The official layouts of all data sets, with small made files."""

import numpy as np
import pytest

from imasks.prepare.registry import PREPARERS, Request
from imasks.tasks.points import draw_places
from tests.prepare.layouts import HELA_PLACES, noise, save, suim_mask


@pytest.fixture
def prepare(tmp_path):
    """Prepare a source as the command does; give what was told."""

    def run(name, source, out=None, on_progress=lambda done, total: None, **options):
        preparer = PREPARERS[name]
        values = {option.name: option.default for option in preparer.options}
        assert options.keys() <= values.keys()
        values |= {"subset": True, **options}
        target = tmp_path / "out" if out is None else out
        request = Request(source=source, out=target, options=values, on_progress=on_progress)
        return preparer.function(request)

    return run


@pytest.fixture
def isic(tmp_path):
    """Six training images, two validation and three test images, with what lies beside them."""
    source = tmp_path / "isic"
    for part, numbers in (("Training", range(6)), ("Validation", (20, 21)), ("Test", (30, 31, 32))):
        images = source / f"ISIC2018_Task1-2_{part}_Input"
        masks = source / f"ISIC2018_Task1_{part}_GroundTruth"
        for number in numbers:
            name = f"ISIC_{number:07d}"
            save(images / f"{name}.jpg", noise(number, 60, 90))
            save(images / f"{name}_superpixels.png", noise(number, 60, 90))
            mask = np.zeros((60, 90))
            mask[20:40, 30:60] = 255
            mask[:20] = 127  # as resampled masks have it at borders
            save(masks / f"{name}_segmentation.png", mask)
        (images / "LICENSE.txt").write_text("CC")
        (images / "ATTRIBUTION.txt").write_text("ISIC")
    return source


@pytest.fixture
def hela(tmp_path):
    """Five training images of 300 x 400, one for validation and one for testing."""
    source = tmp_path / "hela"
    for split, count in (("train", 5), ("val", 1), ("test", 1)):
        for number in range(count):
            name = f"well {number}"
            save(source / split / "brightfield" / f"{name}.jpg", noise(number, 300, 400, 1))
            alive, dead = np.zeros((300, 400)), np.zeros((300, 400))
            for k, (x, y) in enumerate(HELA_PLACES):
                (alive, dead)[k % 2][y - 12 : y + 12, x - 12 : x + 12] = 255
            alive[0, 0] = 10  # not brighter than 10
            marks = draw_places(np.array(HELA_PLACES), (300, 400), lone=3)
            for kind, plane in (("alive", alive), ("dead", dead), ("position", marks * 255)):
                save(source / split / kind / f"{name}.png", plane)
    return source


@pytest.fixture
def suim(tmp_path):
    """Ten images for training and validation, three for testing."""
    source = tmp_path / "suim"
    for part, count in (("train_val", 10), ("TEST", 3)):
        for number in range(count):
            name = f"{'fdw'[number % 3]}_r_{number}_"
            seed = number + 100 * (part == "TEST")
            save(source / part / "images" / f"{name}.jpg", noise(seed, 400, 400))
            save(source / part / "masks" / f"{name}.bmp", suim_mask(400, 400))
    return source


@pytest.fixture
def cityscapes(tmp_path):
    """Twelve training frames in two cities, six for validation, and the test city without ids."""
    source = tmp_path / "cityscapes"
    for part, cities in (("train", ("aachen", "bochum")), ("val", ("munster",)), ("test", ("x",))):
        for city in cities:
            for number in range(6):
                name = f"{city}_{number:06d}_000019"
                image = source / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
                save(image, noise(number, 128, 256))
                truth = source / "gtFine" / part / city
                ids = np.arange(128 * 256).reshape(128, 256) % 34
                for kind in ("labelIds", "instanceIds", "color"):
                    save(truth / f"{name}_gtFine_{kind}.png", ids)
                (truth / f"{name}_gtFine_polygons.json").write_text("{}")
    return source
