"""What the made data sets consist of."""

import numpy as np
from PIL import Image

HELA_PLACES = [(40, 40), (44, 200), (200, 60), (300, 200), (130, 130)]
SUIM_COLORS = [
    *((0, 0, 0), (0, 0, 255), (0, 255, 0), (0, 255, 255)),
    *((255, 0, 0), (255, 0, 255), (255, 255, 0), (255, 255, 255)),
]


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def noise(seed, height, width, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def suim_mask(height, width):
    """Eight stripes, one a class, in colours that are slightly off."""
    ids = np.arange(width) * 8 // width
    colors = np.array(SUIM_COLORS)[ids]
    return np.broadcast_to(np.clip(colors, 20, 235), (height, width, 3)).copy()
