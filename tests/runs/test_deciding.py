import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imasks.labelling.agree import cut_region, inconsistency
from imasks.runs.deciding import decided, predict_from
from imasks.tasks import Binary, Multiclass, Multilabel

TASKS = [Binary(["cell"]), Multiclass(["sea", "land", "ice"]), Multilabel(["a", "b"])]


def probabilities(task, seed, networks=3):
    """Of a grid so coarse that many decisions stand on the edge, float32 [E,C,5,7]."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 5, (networks, task.outputs, 5, 7)) / np.float32(4)
    return grid.astype(np.float32)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@given(seed=st.integers(0, 10_000))
def test_decisions_are_those_of_the_task(task, seed):
    members = probabilities(task, seed)
    votes = [task.discrete(torch.from_numpy(one)[None], reserved=False) for one in members]
    for one, vote in zip(members, votes, strict=True):
        assert (decided(one, task.name) == task.to_user(vote)[0].numpy()).all()
    found = predict_from(members, task, (5, 7))
    mean = torch.from_numpy(members.mean(0))[None]
    own = task.discrete(mean, reserved=False)
    mask = found.mask if task.name == "multilabel" else found.mask[None]
    assert (mask == task.to_user(own)[0].numpy()).all()
    assert (found.im == cut_region(inconsistency(torch.stack(votes))[1])[0, 0].numpy()).all()
    counts = task.overlaps(own, own)[0, :, 1].tolist()
    assert [share * 35 for share in found.areas.values()] == pytest.approx(counts)
