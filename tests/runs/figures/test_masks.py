import numpy as np
import pytest

from imasks.labelling.agree import Morphology
from imasks.runs.colors import default_colors
from imasks.runs.figures.masks import (
    Course,
    Labelled,
    Rivals,
    Voted,
    creation_figure,
    generations_figure,
    rivals_figure,
)
from imasks.tasks import Binary, make_task

IMAGE = np.full((16, 32, 3), 200, np.uint8)
GREY, BLACK = [128] * 3, [0] * 3


def pictures(figure):
    """Every picture of a figure, in its order, with the words above and below it."""
    return [
        (np.asarray(axes.images[0].get_array()), axes.get_title(), axes.get_xlabel())
        for axes in figure.axes
        if axes.images
    ]


def rendered(figure):
    from io import BytesIO

    figure.savefig(BytesIO(), format="png", dpi=40)  # layout warnings are errors
    return figure


@pytest.mark.parametrize("name", ["binary", "multiclass", "multilabel"])
def test_a_mask_is_shown_where_networks_differ(name):
    classes = {"binary": 1}.get(name, 3)
    task = make_task(name, [f"class {k}" for k in range(classes)])
    colors = default_colors(classes)
    votes = np.ones((3, task.planes, 16, 32), np.uint8)
    votes[2, 0, :, 16:] = 0  # one of three differs on the right half
    figure = rendered(
        creation_figure(
            [Voted(image=IMAGE, votes=votes)] * 2, task, colors, morphology=Morphology()
        )
    )
    drawn = pictures(figure)
    assert len(drawn) == 2 * 7
    titles = [title for _, title, _ in drawn[:7]]
    assert titles[1:4] == ["network 1", "network 2", "network 3"]
    total, mask, label = (picture for picture, _, _ in drawn[4:7])
    assert mask[0, 0].tolist() == BLACK
    assert mask[0, 31].tolist() == [255] * 3
    assert label[0, 31].tolist() == GREY
    assert label[0, 0].tolist() == drawn[1][0][0, 0].tolist() == total[0, 0].tolist()
    votes_there = np.mean([picture[0, 31].astype(float) for picture, _, _ in drawn[1:4]], 0)
    assert total[0, 31].tolist() == votes_there.round().tolist()
    assert drawn[5][2] == "50.0% of the pixels"


def course(truth, steps=2):
    region = np.zeros((16, 32), bool)
    region[:, :8] = True
    labels = np.ones((1, 16, 32), np.uint8)
    labelled = tuple(
        Labelled(generation=g, labels=labels, region=region, keep=g == 1)
        for g in range(1, steps + 1)
    )
    return Course(image=IMAGE, truth=truth, labelled=labelled)


def test_generations_show_input_above_label():
    truth = np.zeros((1, 16, 32), np.uint8)
    one = [course(truth), course(truth)]
    figure = rendered(generations_figure(one, Binary(["cell"]), default_colors(1), title="x"))
    image, first, second, true, label, left_out = pictures(figure)[:6]
    assert (image[1], first[1], second[1]) == ("image", "generation 1", "generation 2")
    assert first[0][0, 0].tolist() == BLACK
    assert first[0][0, 31].tolist() == IMAGE[0, 31].tolist()
    assert label[0][0, 0].tolist() == GREY
    assert label[0][0, 31].tolist() == default_colors(1)[0].tolist()
    assert (true[2], label[2], left_out[2]) == (
        *("true mask", "25.0% in doubt"),
        "25.0% in doubt, left out",
    )
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["cell", "inconsistency mask"]


def test_generations_without_truth():
    shown = [course(None, steps=1)]
    figure = rendered(generations_figure(shown, Binary(["cell"]), default_colors(1), title="x"))
    assert [words[1:] for words in pictures(figure)] == [
        ("image", ""),
        ("generation 1", ""),
        ("", "25.0% in doubt"),
    ]


def rivals(first, second):
    mask = np.zeros((1, 16, 32), np.uint8)
    return Rivals(image=IMAGE, truth=mask, first=mask, second=mask, scores=(first, second))


@pytest.mark.parametrize(("better", "worse"), [(2, 1), (1, 0), (0, 3)])
def test_rivals_stand_in_blocks_of_their_own(better, worse):
    figure = rendered(
        rivals_figure(
            [rivals(0.1, 0.9)] * better,
            [rivals(0.8, 0.2)] * worse,
            Binary(["cell"]),
            default_colors(1),
            names=("FDT", "IM"),
        )
    )
    notes = [below for _, _, below in pictures(figure) if below]
    assert notes == ["IoU 0.100", "IoU 0.900"] * better + ["IoU 0.800", "IoU 0.200"] * worse
    titles = [part._suptitle.get_text() for part in figure.subfigs]
    assert titles == ["IM is better"] * bool(better) + ["FDT is better"] * bool(worse)
