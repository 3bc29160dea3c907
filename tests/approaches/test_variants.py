"""Approaches with settings of their own."""

import pytest

from imasks.approaches.presets import PRESETS
from imasks.approaches.recipes import find_approach
from imasks.approaches.variants import SETTINGS, own_name, varied
from imasks.errors import UserError


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("IM", "IM"),
        ("im im-label=mean", "IM im-label=mean"),
        (" im+  MODELS=3   IM-INPUT=Black ", "IM+ im-input=black models=3"),
        ("consistency loss low budget=equal-steps", "Consistency Loss low budget=equal-steps"),
    ],
)
def test_settings_follow_the_name(asked, name):
    found = find_approach(asked)
    assert found.name == name
    assert find_approach(found.name) == found
    assert own_name(found.name) == find_approach(own_name(asked)).name


def test_what_is_said_is_changed_and_nothing_else():
    how = PRESETS["default"]
    said = {
        "im-input": "black",
        "im-label": "mean",
        "im-erode": "3",
        "im-dilate": "0",
        "filter": "on",
        "models": "3",
        "views": "5",
        "warm-start": "off",
        "thresholds": "ladder",
        "budget": "equal-steps",
        "sampling": "balanced",
        "class-weights": "balanced",
    }
    assert tuple(said) == SETTINGS
    name = " ".join(["IM", *(f"{key}={value}" for key, value in said.items())])
    new = varied(how, find_approach(name).changes)
    policy = new.policy
    assert (policy.input, policy.label, policy.filter) == ("black", "mean", True)
    assert (new.models, new.views, new.thresholds) == (3, 5, "ladder")
    assert (how.warm_start, new.warm_start) == (True, False)
    assert (new.budget, new.sampling, new.class_weights) == ("equal-steps", "balanced", "balanced")
    assert (policy.morphology.erode, policy.morphology.dilate) == (3, 0)
    assert (new.recipe, new.candidates) == (how.recipe, how.candidates)
    assert varied(how, ()) == how


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("IM im-label=nothing", "blank, ignore"),
        ("IM models=none", "whole number"),
        ("IM models=0", "whole number"),
        ("IM models=", "NAME=VALUE"),
        ("IM filter=maybe", "on or off"),
        ("IM im-erode=2", "0 or an odd number"),
        ("IM im-dilate=-3", "0 or an odd number"),
        ("IM steps=100", "options of the whole study"),
        ("models=3 IM", "NAME=VALUE"),
        ("IM models=2 models=3", "twice"),
        ("Noisy Studnet models=2", "Did you mean Noisy Student"),
    ],
)
def test_wrong_settings_are_refused(name, says):
    with pytest.raises(UserError) as error:
        find_approach(name)
    assert says in str(error.value) + str(error.value.remedy)


def test_more_votes_than_networks_are_refused():
    with pytest.raises(UserError, match="more networks are to vote"):
        varied(PRESETS["default"], find_approach("IM models=9").changes)
