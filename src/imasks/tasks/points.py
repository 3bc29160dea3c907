"""Classes whose masks mark places, one disc a thing: where they are, drawn anew, counted.

Shape letters: n places, K classes, H x W pixels. Places are int64 [n, 2], x before y.
Source: METHOD 12 and 14.15; `golden/positions.npz` and `im_hela.npz` hold the published numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imasks.extras import needed

ERODED = 3  # side of the kernel that parts discs which touch
RADII = (3, 8)
SHARE = 4  # a disc's radius is at most this part of the way to the next place
WINDOW = 6  # side of the square in which a place's kind is looked up
UNCLEAR = -1


def need_opencv() -> Any:
    """Import OpenCV, which finds and draws places.

    Raises:
        UserError: it is not installed.
    """
    return needed("cv2", extra="points", what="a class that marks points")


def find_places(mask: np.ndarray) -> np.ndarray:
    """Find the centres of a mask's spots after an erosion that parts those which touch.

    As published, a centre is that of the spot's outline, rounded down, and then one pixel further
    right and down. So places that are found in what :func:`draw_places` drew have moved.

    Args:
        mask: uint8 or bool [H, W], 0 or not 0.

    Returns:
        int64 [n, 2]; spots that the erosion leaves no area are none.
    """
    cv2 = need_opencv()
    spots = cv2.erode((mask > 0).astype(np.uint8), np.ones((ERODED, ERODED), np.uint8))
    outlines, _ = cv2.findContours(spots, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        moments = cv2.moments(outline)
        if area := moments["m00"]:
            found.append((int(moments["m10"] / area) + 1, int(moments["m01"] / area) + 1))
    return np.array(found, np.int64).reshape(-1, 2)


def draw_places(
    places: np.ndarray, shape: tuple[int, int], *, lone: int = RADII[1], soften: bool = False
) -> np.ndarray:
    """Draw a disc at each place, the smaller the nearer the next one.

    Args:
        places: int64 [n, 2].
        shape: (height, width) in pixels.
        lone: radius of the only disc. As published it is 8 in pseudo-labels, 3 in true masks.
        soften: shave discs by a 2 x 2 mean, as published for true masks.

    Returns:
        uint8 [H, W] of 0 and 1.
    """
    cv2 = need_opencv()
    drawn = np.zeros(shape, np.uint8)
    for place, radius in zip(places.tolist(), _radii(places, lone), strict=True):
        cv2.circle(drawn, place, radius, 255, -1)
    if soften:
        drawn = cv2.blur(drawn, (2, 2))
    return (drawn >= 254).astype(np.uint8)


def kinds_of(places: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Say which of several classes each place belongs to.

    That is the class with the most pixels in the 6 x 6 window around it. As published, the window
    begins at the place itself where it would begin at or before the image's first pixel.

    Args:
        places: int64 [n, 2].
        planes: uint8 or bool [K, H, W], the classes to choose from.

    Returns:
        int64 [n], the class's number; UNCLEAR where two have as many, or none has any.
    """
    found = np.full(len(places), UNCLEAR, np.int64)
    for number, place in enumerate(places.tolist()):
        x, y = (at - WINDOW // 2 if at > WINDOW // 2 else at for at in place)
        pixels = (planes[:, y : y + WINDOW, x : x + WINDOW] > 0).sum((1, 2))
        most = pixels.max(initial=0)
        if most and (pixels == most).sum() == 1:
            found[number] = pixels.argmax()
    return found


def _radii(places: np.ndarray, lone: int) -> list[int]:
    if len(places) < 2:
        return [lone] * len(places)
    # one place at a time: a noisy mask has thousands, and all pairs at once would take gigabytes
    squared = (np.square(places - place).sum(1) for place in places)
    nearest = [np.partition(row, 1)[1] for row in squared]  # the very first is the place itself
    radii: list[int] = np.clip(np.sqrt(nearest) // SHARE, *RADII).astype(int).tolist()
    return radii
