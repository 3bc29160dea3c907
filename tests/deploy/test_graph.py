from dataclasses import replace

import numpy as np
import pytest
import torch

from imasks.data.prepare import resize_image
from imasks.deploy.about import OUTPUTS
from imasks.deploy.graph import EnsembleGraph, said
from imasks.errors import UserError
from imasks.tasks import Binary, Multiclass, Multilabel

from .conftest import DEEP, RESIZE, TILES, blurred, predictor_for

TASKS = [Binary(["cell"]), Multiclass(["sea", "land", "ice"]), Multilabel(["a", "b"])]


def as_graph_input(images):
    return images if images.dtype == np.uint8 else images.astype(np.float32)


@pytest.mark.parametrize("plain", [False, True], ids=["cut", "plain"])
@pytest.mark.parametrize("prep", [RESIZE, DEEP], ids=["uint8", "uint16"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_graph_says_what_the_predictor_says(task, prep, plain):
    predictor = predictor_for(task, prep, plain=plain)
    for size in ((32, 48), (41, 77), (90, 35)):
        images = blurred(*size, prep, count=2)
        found = said(EnsembleGraph(predictor), as_graph_input(images))
        for index, image in enumerate(images):
            expected = replace(predictor, scale="whole")(image)
            mask = expected.mask if task.name == "multilabel" else expected.mask[None]
            # where resized pixels are one grey level apart, decisions on the edge differ
            edge = 1e-3 if size == RESIZE.size else 5e-3
            assert (found["labels"][index] != mask).mean() < edge
            assert (found["inconsistency"][index, 0] != expected.im).mean() < edge
            assert found["quality"][index] == pytest.approx(expected.quality, abs=edge)
            if task.detects:
                classes = dict(zip(task.classes, found["class_quality"][index], strict=True))
                there = {name: value for name, value in classes.items() if not np.isnan(value)}
                assert there == pytest.approx(expected.class_quality, abs=edge)
        assert 0 < found["inconsistency"].mean() < 1  # the test can tell


def test_members_are_what_the_predictor_decides_on():
    predictor = predictor_for(TASKS[1])
    image = blurred(64, 96)
    found = said(EnsembleGraph(predictor), image)
    expected = predictor.show(resize_image(image[0], RESIZE.size)[None])
    np.testing.assert_allclose(found["members"], expected, atol=1e-5)
    assert found["probabilities"].shape == (1, 4, 64, 96)


def test_networks_of_tiles_see_images_at_their_own_size():
    predictor = predictor_for(TASKS[0], TILES)
    graph = EnsembleGraph(predictor)
    assert graph.outputs == OUTPUTS  # a tile has no quality
    tile = blurred(32, 48)
    found = said(graph, tile)
    np.testing.assert_allclose(found["members"][:, 0], predictor.show(tile)[:, 0], atol=1e-5)
    odd = said(graph, blurred(45, 50))
    assert odd["labels"].shape == (1, 1, 45, 50)
    assert odd["members"].shape == (2, 1, 1, 48, 64)  # padded to the stride
    padded = np.pad(blurred(45, 50), ((0, 0), (0, 3), (0, 14), (0, 0)), mode="edge")
    np.testing.assert_allclose(odd["members"][:, 0], predictor.show(padded)[:, 0], atol=1e-5)


def test_models_are_exported_on_the_cpu():
    predictor = predictor_for(TASKS[0])
    with pytest.raises(UserError, match="on the CPU"):
        EnsembleGraph(replace(predictor, device=torch.device("meta")))
