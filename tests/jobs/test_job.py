import copy
import enum
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.jobs import Job, in_order
from imasks.jobs.job import jobs_from_json, jobs_to_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(math.isfinite)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
params = st.dictionaries(st.text(), values, max_size=4)


def fit(inputs=(), **params):
    return Job(kind="fit", params=params, inputs=inputs)


def test_key_is_the_same_for_ever():
    start = Job(kind="fit", params={"seed": 1, "rate": 1e-3, "name": "ä", "sizes": [1, None]})
    assert start.key == "0cd20363d25517d3"
    assert Job(kind="rank", params={}, inputs=(start,)).key == "58a3e0333947dd81"


def test_key_hears_of_kind_and_of_the_order_of_inputs():
    a, b = fit(seed=1), fit(seed=2)
    keys = [
        Job(kind="fit", params={}).key,
        Job(kind="rank", params={}).key,
        Job(kind="rank", params={}, inputs=(a, b)).key,
        Job(kind="rank", params={}, inputs=(b, a)).key,
        Job(kind="rank", params={}, inputs=(a, a)).key,
    ]
    assert len(set(keys)) == len(keys)


@settings(deadline=None, max_examples=50)
@given(params, st.text(), st.floats(0.1, 1e9))
def test_key_does_not_hear_of_label_weight_or_the_order_of_params(content, label, weight):
    turned = dict(reversed(content.items()))
    one = Job(kind="fit", params=content)
    other = Job(kind="fit", params=turned, label=label, weight=weight)
    assert one.key == other.key
    assert one == other
    assert len({one, other}) == 1


def same(one, other):
    """Tell whether two JSON values are the same to the type, as 1, 1.0 and True are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@settings(deadline=None, max_examples=50)
@given(params, st.text(), values, values)
def test_any_change_of_params_changes_the_key(content, name, value, other):
    without = {key: content[key] for key in content if key != name}
    one = Job(kind="fit", params={**without, name: value})
    assert one.key != Job(kind="fit", params=without).key
    changed = Job(kind="fit", params={**without, name: other})
    assert (one.key == changed.key) == same(value, other)


@pytest.mark.parametrize("other", [1.0, True, "1", [1], {"a": 1}, None, -1])
def test_key_tells_values_apart_by_type(other):
    assert fit(a=1).key != fit(a=other).key


def test_tuples_are_lists_and_mappings_are_copied():
    content = {"sizes": (1, 2), "inner": {"a": [1]}}
    job = Job(kind="fit", params=content)
    content["inner"]["a"].append(2)
    assert job.params == {"sizes": [1, 2], "inner": {"a": [1]}}
    assert job.key == fit(sizes=[1, 2], inner={"a": [1]}).key


class Task(enum.StrEnum):
    BINARY = "binary"


def test_enumerations_of_strings_are_strings():
    assert fit(task=Task.BINARY).key == fit(task="binary").key


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"path": Path()}, "params['path'] is of type"),
        ({"rate": np.float32(1)}, "params['rate'] is of type float32"),
        ({"sizes": [1, {2}]}, "params['sizes'][1] is of type set"),
        ({"inner": {1: 2}}, "params['inner'] has the key 1"),
    ],
)
def test_what_is_not_json_is_named(bad, name):
    with pytest.raises(TypeError) as caught:
        Job(kind="fit", params=bad)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_named(number):
    with pytest.raises(ValueError, match=r"^params\['inner'\]\['rate'\] is -?(nan|inf)"):
        fit(inner={"rate": number})


def test_jobs_travel():
    job = fit((fit(seed=1),), seed=2)
    assert pickle.loads(pickle.dumps(job)) == job == copy.deepcopy(job)


def test_text():
    assert str(Job(kind="fit", params={}, label="IM++, seed 1")) == "IM++, seed 1"
    job = fit()
    assert str(job) == f"fit {job.key}"
    assert job != "fit"


def test_in_order_puts_inputs_first_and_each_job_once():
    start = fit(seed=0)
    a, b = fit((start,), n=1), fit((start,), n=2)
    rank = Job(kind="rank", params={}, inputs=(b, a))
    again = fit((fit(seed=0),), n=1)
    alone = fit(seed=9)
    assert in_order([a, rank, again, alone]) == [start, a, b, rank, alone]
    assert in_order([]) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=12), st.randoms())
def test_in_order_of_any_graph(graph, random):
    jobs = []
    for number, places in enumerate(graph):
        inputs = tuple(jobs[place % number] for place in places) if number else ()
        jobs.append(fit(inputs, number=number))
    given_ = random.sample(jobs, len(jobs))
    ordered = in_order(given_)
    assert len(ordered) == len(jobs)
    place = {job: number for number, job in enumerate(ordered)}
    assert all(place[needed] < place[job] for job in jobs for needed in job.inputs)
    assert in_order(ordered) == ordered


@given(params, params)
def test_jobs_come_back_from_json_text_with_their_keys(first, second):
    start = Job(kind="fit", params=first, label="ä", weight=0.5)
    jobs = in_order([Job(kind="rank", params=second, inputs=(start, fit(start=[]), start))])
    back = jobs_from_json(json.loads(json.dumps(jobs_to_json(jobs))))
    assert back == jobs
    assert [(job.label, job.weight) for job in back] == [(job.label, job.weight) for job in jobs]
    assert back[-1].inputs == jobs[-1].inputs
