from dataclasses import asdict, replace

import numpy as np
import pytest

from imasks.approaches.generation import assemble, sources
from imasks.approaches.ladders import LADDERS
from imasks.approaches.presets import PRESETS, Policy
from imasks.approaches.recipes import APPROACHES
from imasks.data.arrays import Arrays
from imasks.data.prepare import Preparation
from imasks.jobs import in_order
from imasks.labelling.labellers import PseudoLabels
from imasks.runs import cost
from imasks.runs.config import RunConfig
from imasks.runs.plan import make_plan
from imasks.tasks import TASKS

CONFIG = RunConfig(
    data="data",
    checksum="0",
    task="binary",
    classes=("cell",),
    colors=(),
    preparation=Preparation(
        size=(256, 256), channels=3, fit="resize", levels=None, native=(256, 256), largest=(99, 99)
    ),
    images={"labeled": 64, "unlabeled": 640, "val": 20, "test": 30},
    val_cut=(),
    approaches=tuple(APPROACHES),
    seeds=(0,),
    preset="paper",
    how=PRESETS["paper"],
    ladder=LADDERS["isic2018"],
    device="cpu",
    threads=1,
)
SHORT = replace(PRESETS["default"].recipe, steps=100)


def config(preset="paper", *, approaches=tuple(APPROACHES), **changes):
    own = {name: changes.pop(name) for name in ("task", "classes", "seeds") if name in changes}
    how = replace(PRESETS[preset], **changes)
    return replace(CONFIG, preset=preset, how=how, approaches=tuple(approaches), **own)


def lines(preset="paper", **changes):
    plan = make_plan(config(preset, **changes))
    return {line.approach.name: line for line in plan.lines}


def kinds(line):
    jobs = in_order(line.targets)
    return {kind: sum(job.kind == kind for job in jobs) for kind in {job.kind for job in jobs}}


@pytest.fixture(scope="module")
def paper():
    return lines()


def test_published_numbers_of_networks(paper):
    assert len(paper["LDT"].generations[0].fits) == 10
    assert [len(g.fits) for g in paper["AIM++"].generations] == [10, 5, 5, 5, 5, 5]
    assert [len(g.fits) for g in paper["Consistency Loss mid"].generations] == [10, 5]
    assert kinds(paper["IM++"]) == {
        "prepare": 1,
        "fit": 35,
        "rank": 6,
        "label": 5,
        "grader": 5,
        "rank_graders": 1,
        "grade": 5,
        "quality": 6,
    }
    # the EvalNets of the approach EvalNet learn from ALDT's candidates too
    assert kinds(paper["EvalNet"]) == {
        "prepare": 1,
        "fit": 45,
        "rank": 6,
        "choose": 5,
        "grader": 5,
        "rank_graders": 1,
        "quality": 6,
    }
    assert "grader" not in kinds(paper["GT-IM++"])


def test_published_evalnets(paper):
    def grader(name):
        return next(job for job in in_order(paper[name].targets) if job.kind == "grader").params

    assert grader("IM++")["network"]["width"] == 1.0  # twice the U-Net's
    recipe = grader("IM++")["recipe"]
    assert (recipe["epochs"], recipe["batch"], recipe["learning_rate"]) == (50, 32, 0.003)
    assert (recipe["steps"], recipe["min_steps"]) == (None, 1)
    assert (grader("IM++")["pairs"], grader("IM++")["loops"]) == ("inconsistent", [10, 3])
    plain = grader("EvalNet")
    assert (plain["pairs"], plain["groups"], plain["first"]) == ("plain", 2, 3)
    rank = next(job for job in in_order(paper["IM++"].targets) if job.kind == "rank_graders")
    assert rank.params["keep"] == 4
    grade = paper["IM++"].generations[1].grade.params
    assert (grade["thresholds"], grade["models"]) == ([0.72, 0.75], 2)


def test_who_teaches_evalnets(paper):
    def taught(name):
        job = next(job for job in in_order(paper[name].targets) if job.kind == "grader")
        return [one.key for one in job.inputs if one.kind == "fit"]

    ldt, aldt = ([job.key for job in paper[s].generations[0].fits] for s in ("LDT", "ALDT"))
    assert taught("IM++") == ldt
    assert taught("AIM++") == aldt
    assert taught("EvalNet") == ldt + aldt


def test_starts_and_evalnets_are_shared():
    found = lines(quality=True)
    for name, line in found.items():
        start = APPROACHES[name].start
        if start is not None:
            assert line.generations[0].fits == found[start].generations[0].fits
    graders = {
        name: next(job for job in in_order(line.targets) if job.kind == "rank_graders")
        for name, line in found.items()
    }
    assert graders["IM"] == graders["IM+"] == graders["IM++"] == graders["LDT"]
    assert graders["AIM+"] == graders["AIM++"] == graders["ALDT"]
    assert graders["EvalNet"] != graders["LDT"]
    assert found["IM"].generations[0].quality == found["LDT"].generations[0].quality
    assert found["IM+"].generations[1].label == found["GT-IM++"].generations[1].label


def test_quality_only_where_evalnets_are_taught(paper):
    judged = {name for name, line in paper.items() if line.generations[0].quality}
    assert judged == {"EvalNet", "IM++", "AIM++"}
    for line in paper.values():
        assert line.targets == [g.quality or g.rank for g in line.generations]


def test_keys_depend_on_nothing_but_what_is_computed():
    alone = lines(approaches=["IM++"])["IM++"]
    larger = make_plan(config(approaches=["LDT", "IM++"], seeds=(0, 1)))
    found = {(line.approach.name, line.seed): line for line in larger.lines}
    assert found["IM++", 0].targets == alone.targets
    assert not {*in_order(found["IM++", 1].targets)[1:]} & {*in_order(alone.targets)}
    mine, other = (one.generations[1] for one in (alone, lines(thresholds="auto")["IM++"]))
    assert other.label == mine.label
    assert other.grade != mine.grade
    assert other.fits != mine.fits


def test_labels_of_every_approach(paper):
    def label(name, generation=1):
        return paper[name].generations[generation].label

    assert label("Noisy Student").params["models"] == 1
    assert label("Noisy Student").params["choose"] == "all"
    assert label("IM").params["models"] == 2
    assert label("IM").params["choose"] == "filtered"  # binary, as published
    assert label("Model Ensemble").params["kind"] == "ensemble"
    views = label("Input Ensemble").params
    assert (views["views"], views["models"]) == (3, 1)
    assert views["augmentation"]["flip"]  # binary: positions too
    assert views["augmentation"]["max_noise"] == 17  # mid
    best, second = label("EvalNet"), label("EvalNet", 2)
    assert sum(job.kind == "fit" for job in best.inputs) == 10
    assert sum(job.kind == "fit" for job in second.inputs) == 5
    assert best in second.inputs  # what was kept stays
    assert best.params["thresholds"][("lo", "hi").index(best.params["keep_at"])] == 0.75


def test_consistency_goes_on_from_the_best_network(paper):
    start, trained = paper["Consistency Loss low"].generations
    for fit in trained.fits:
        assert fit.inputs[1:] == (start.rank, *start.fits)
        assert fit.params["recipe"]["epochs"] == 100
        assert fit.params["views"]["max_noise"] == 10
    # 2 labeled and 2 x 20 unlabeled batches an epoch
    assert cost.steps_of(trained.fits[0], CONFIG) == pytest.approx(100 * (2 + 40))
    short = lines("default", approaches=["Consistency Loss low"], recipe=SHORT)
    (_, generation) = short["Consistency Loss low"].generations
    assert generation.fits[0].params["recipe"]["steps"] == 100
    assert generation.fits[0].params["alternate"]  # every other step is unlabeled, and counts twice
    assert cost.steps_of(generation.fits[0], CONFIG) == pytest.approx(100 * 1.5)
    assert "alternate" not in trained.fits[0].params


def test_warm_starts_where_networks_are_alike():
    warm = lines("default", approaches=["IM", "IM+"], warm_start=True, generations=3)
    cold = lines("default", approaches=["IM", "IM+"], warm_start=False, generations=3)
    for name, line in warm.items():
        for before, own, other in zip(
            line.generations, line.generations[1:], cold[name].generations[1:], strict=False
        ):
            widths = {fit.params["network"]["width"] for fit in (*before.fits, *own.fits)}
            begins = "warm_start" in own.fits[0].params
            assert begins == (len(widths) == 1)
            assert (before.rank in own.fits[0].inputs) == begins
            assert "warm_start" not in other.fits[0].params
            assert before.rank not in other.fits[0].inputs
    assert warm["IM"].generations[0].fits == cold["IM"].generations[0].fits
    assert all("warm_start" in g.fits[0].params for g in warm["IM"].generations[1:])
    assert "warm_start" not in warm["IM+"].generations[2].fits[0].params  # it grows


def test_equal_steps_for_every_approach():
    found = lines("default", budget="equal-steps", recipe=SHORT, generations=3)
    for line in found.values():
        steps = [generation.fits[0].params["recipe"]["steps"] for generation in line.generations]
        assert sum(steps) == 400
    assert found["LDT"].generations[0].fits != found["IM"].generations[0].fits
    each = lines("default", recipe=SHORT, generations=3)
    for line in each.values():
        for generation in line.generations:
            assert generation.fits[0].params["recipe"]["steps"] == 100


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_plan(task):
    found = lines("default", task=task, classes=("a", "b")[: 1 if task == "binary" else 2])
    assert set(found) == set(APPROACHES)
    grader = next(job for job in in_order(found["IM++"].targets) if job.kind == "grader")
    network = grader.params["network"]
    outputs = {"binary": 1, "multiclass": 3, "multilabel": 2}[task]
    assert (network["mask_channels"], network["classes"]) == (outputs, outputs)
    assert network["detection"] == (task != "binary")


def test_costs_are_of_one_unit(paper):
    for line in paper.values():
        for job in in_order(line.targets):
            assert job.weight >= 0
            if job.kind in ("fit", "grader"):
                recipe = job.params["recipe"]
                assert cost.steps_of(job, CONFIG) >= recipe["min_steps"] - 1e-6
    grader = next(job for job in in_order(paper["IM++"].targets) if job.kind == "grader")
    assert cost.steps_of(grader, CONFIG) == pytest.approx(50 * (64 * 10 // 32))
    best, single = (paper[n].generations[1].label.weight for n in ("EvalNet", "Noisy Student"))
    assert best > 10 * single  # ten networks, and EvalNets on top


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["LDT", "ALDT", "FDT", "IM", "AIM+"])
def test_pairs_are_counted_as_they_are_put_together(preset, name):
    ladder, images = LADDERS["isic2018"], {"labeled": 3, "unlabeled": 20}
    wanted = sources(APPROACHES[name], PRESETS[preset], ladder, 1)

    def arrays(count):
        zeros = np.zeros((count, 8, 8, 1), np.uint8)
        return Arrays(images=zeros, labels=zeros.transpose(0, 3, 1, 2), names=("",) * count)

    unlabeled = arrays(images["unlabeled"])
    nowhere = np.zeros((20, 1, 8, 8), np.bool_)
    pseudo = PseudoLabels(
        labels=unlabeled.labels, im=nowhere, region=nowhere[:, 0], keep=np.ones(20, np.bool_)
    )
    parts = assemble(
        wanted,
        labeled=arrays(images["labeled"]),
        unlabeled=unlabeled,
        pseudo=pseudo,
        policy=Policy(),
        seed=0,
    )
    assert cost.pairs_of(wanted, images) == sum(len(part) for part in parts)


def test_settings_of_an_approach_change_its_generations_and_share_its_start():
    names = ["IM", "IM im-label=mean", "IM models=3", "IM im-input=black im-label=ignore"]
    names.append("IM im-erode=3")
    by_name = lines("default", approaches=names)
    assert list(by_name) == names
    plain = by_name["IM"].generations
    for name in names[1:]:
        start, first, *_ = by_name[name].generations
        assert start.fits == plain[0].fits
        assert not {job.key for job in first.fits} & {job.key for job in plain[1].fits}
    assert by_name["IM models=3"].how.models == 3
    assert by_name["IM im-label=mean"].generations[1].label.params["extra"] == "mean"
    smaller = by_name["IM im-erode=3"].generations[1].label.params
    assert smaller["morphology"] == {"erode": 3, "dilate": 0}
    assert by_name["IM im-input=black im-label=ignore"].generations[1].fits[0].params[
        "policy"
    ] == asdict(Policy(input="black", label="ignore", filter=False))


def test_equal_steps_for_one_approach():
    by_name = lines("default", approaches=["LDT", "LDT budget=equal-steps"], generations=2)
    short, long = (line.generations[0].fits[0] for line in by_name.values())
    assert long.params["recipe"]["steps"] == 3 * short.params["recipe"]["steps"]
