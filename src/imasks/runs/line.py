"""The jobs of one approach and seed, generation by generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import cycle
from typing import Any

from imasks.approaches.approach import Approach
from imasks.approaches.generation import sources, to_json, width
from imasks.approaches.ladders import STRENGTHS
from imasks.approaches.presets import Preset
from imasks.approaches.recipes import find_approach
from imasks.approaches.variants import varied
from imasks.jobs import Job
from imasks.models.evalnet import EvalNetConfig
from imasks.models.networks import NetworkConfig, to_record
from imasks.models.unet import UNetConfig
from imasks.runs import cost
from imasks.runs.config import RunConfig
from imasks.training.recipe import Recipe

KEPT_GRADERS = 4  # as published
FIRST_TEACHERS = 3  # candidates of each start whose masks EvalNets are validated on, as published


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The jobs of one generation of one approach and seed.

    Args:
        number: 0 is the supervised start.
        label: makes the pseudo-labels this generation learns from; None in generation 0, and where
            none are made.
        grade: says how often each of them is shown; None: once.
        fits: one job a candidate.
        rank: orders them.
        quality: compares what EvalNets say of predictions with the truth; None without EvalNets.
    """

    number: int
    label: Job | None
    grade: Job | None
    fits: tuple[Job, ...]
    rank: Job
    quality: Job | None

    @property
    def last(self) -> Job:
        """The job that ends the generation."""
        return self.quality or self.rank


@dataclass(frozen=True, kw_only=True)
class Line:
    """One approach with one seed, generation by generation.

    Args:
        approach: what is trained.
        how: the run's preset with the approach's own settings.
        seed: of everything that is random.
        generations: from the start on.
    """

    approach: Approach
    how: Preset
    seed: int
    generations: tuple[Generation, ...]

    @property
    def targets(self) -> list[Job]:
        """What ends every generation; all other jobs of the line are inputs of these."""
        return [generation.last for generation in self.generations]


def draw_line(approach: Approach, seed: int, config: RunConfig, prepare: Job) -> Line:
    """List the jobs of one approach and seed."""
    how = varied(config.how, approach.changes)
    config = replace(config, how=how)
    generations = tuple(_generations(approach, seed, config, prepare))
    return Line(approach=approach, how=how, seed=seed, generations=generations)


def _generations(
    approach: Approach, seed: int, config: RunConfig, prepare: Job
) -> Iterator[Generation]:
    how = config.how
    line = _Line(approach, seed, config, prepare)
    if approach.start is None:
        yield line.start(approach, line.lengthened(how.generations + 1))
        return
    current = line.start(find_approach(approach.start), how.recipe)
    yield current
    if approach.consistency is not None:
        yield line.consistency(current)
        return
    for number in range(1, how.generations + 1):
        current = line.generation(number, current)
        yield current


@dataclass(frozen=True)
class _Line:
    """Makes the jobs of one approach and seed."""

    approach: Approach
    seed: int
    config: RunConfig
    prepare: Job

    def start(self, start: Approach, recipe: Recipe) -> Generation:
        fits = self._fits(start, 0, recipe, name=start.name)
        return self._ranked(start, 0, fits, name=start.name)

    def generation(self, number: int, before: Generation) -> Generation:
        label = self._label(number, before)
        grade = self._grade(number, before, label) if self.approach.copies else None
        inputs = (label,) if grade is None else (label, grade)
        how = self.config.how
        fits = self._fits(
            self.approach,
            number,
            how.recipe,
            inputs=inputs,
            before=before if how.warm_start else None,
        )
        return self._ranked(self.approach, number, fits, label=label, grade=grade)

    def consistency(self, before: Generation) -> Generation:
        recipe = self.lengthened(self.config.how.generations)
        if recipe.steps is None:
            recipe = replace(recipe, epochs=2 * recipe.epochs)  # METHOD 14.7
        views = dict(zip(STRENGTHS, self.config.ladder.views, strict=True))
        assert self.approach.consistency is not None
        fits = self._fits(
            self.approach,
            1,
            recipe,
            inputs=(before.rank, *before.fits),
            views=asdict(views[self.approach.consistency]),
        )
        return self._ranked(self.approach, 1, fits)

    def lengthened(self, generations: int) -> Recipe:
        """How a network is trained that has no descendants.

        With a budget of equal steps it gets those of all generations of the other approaches.
        """
        recipe = self.config.how.recipe
        if self.config.how.budget == "network" or recipe.steps is None:
            return recipe
        return replace(recipe, steps=recipe.steps * max(1, generations))

    def _fits(
        self,
        approach: Approach,
        number: int,
        recipe: Recipe,
        *,
        inputs: tuple[Job, ...] = (),
        views: Mapping[str, Any] | None = None,
        before: Generation | None = None,
        name: str | None = None,
    ) -> tuple[Job, ...]:
        """List the jobs of a generation's candidates; they go on from networks of ``before``."""
        config, how = self.config, self.config.how
        count = how.start_candidates if number == 0 else how.candidates
        wanted = sources(approach, how, config.ladder, number)
        networks = self._networks(approach, number, recipe)
        pairs = cost.pairs_of(wanted, config.images)
        steps: float = recipe.total_steps(pairs)
        if views is not None:  # an epoch has batches of both kinds; unlabeled ones count twice
            once, twice = (max(1, n // recipe.batch) for n in (pairs, config.images["unlabeled"]))
            unlabeled = 0.5 if how.alternate else twice / (once + twice)
            steps = recipe.steps_of(once + twice) * (1 + unlabeled)
        params: dict[str, Any] = {
            **self._common(),
            "recipe": asdict(recipe),
            "sources": to_json(wanted),
            # also of approaches that have no mask, or runs that are there would lose their jobs
            "policy": asdict(how.policy) if approach.labels else None,
            "threads": config.threads,
        }
        if views is not None:
            params["views"] = views
            params |= {"alternate": True} if how.alternate else {}
        # only where they are asked for, so that keys of trainings without do not depend on them
        if how.sampling != "plain":
            params["sampling"] = how.sampling
        if how.class_weights != "none":
            params["class_weights"] = how.class_weights
        if before is not None:
            there = self._networks(approach, number - 1, recipe)
            # any can go on from any only if all are built in one and the same way
            if all(one == networks[0] for one in (*networks, *there)):
                params["warm_start"] = True
                inputs += (before.rank, *before.fits)
        return tuple(
            Job(
                kind="fit",
                params={
                    **params,
                    "network": to_record(network),
                    "seed": [self.seed, number, candidate],
                },
                inputs=(self.prepare, *inputs),
                label=f"{self._where(number, name)}: candidate {candidate + 1} of {count}",
                weight=cost.of_network(network, config) * recipe.batch * steps,
            )
            for candidate, network in zip(range(count), cycle(networks), strict=False)
        )

    def _networks(
        self, approach: Approach, number: int, recipe: Recipe
    ) -> tuple[NetworkConfig, ...]:
        """What the candidates of a generation are, in turn; only U-Nets grow."""
        config = self.config
        unet = UNetConfig(
            in_channels=config.preparation.channels,
            outputs=config.make_task().outputs,
            width=width(approach, config.ladder, number),
            dropout=recipe.dropout,
            norm_momentum=recipe.norm_momentum,
        )
        asked = config.networks or (unet,)
        return tuple(unet if isinstance(one, UNetConfig) else one for one in asked)

    def _ranked(
        self,
        approach: Approach,
        number: int,
        fits: tuple[Job, ...],
        *,
        label: Job | None = None,
        grade: Job | None = None,
        name: str | None = None,
    ) -> Generation:
        config, how = self.config, self.config.how
        images = config.images["val"] + config.images["test"]
        weight = self._predicting(approach, number, images * how.models)
        rank = Job(
            kind="rank",
            params={**self._common(), "models": how.models},
            inputs=(self.prepare, *fits),
            label=f"{self._where(number, name)}: rank",
            weight=weight,
        )
        quality = None
        if self.graders:
            quality = Job(
                kind="quality",
                params={**self._common(), "models": how.models},
                inputs=(self.prepare, rank, *fits, *self.graders),
                label=f"{self._where(number, name)}: quality of predictions",
                weight=weight + self._judging(images),
            )
        return Generation(
            number=number, label=label, grade=grade, fits=fits, rank=rank, quality=quality
        )

    def _label(self, number: int, before: Generation) -> Job:
        config, how, approach = self.config, self.config.how, self.approach
        kind, images = approach.labels, config.images["unlabeled"]
        models = how.models if kind in ("inconsistency", "ensemble") else 1
        params: dict[str, Any] = {**self._common(), "models": models}
        inputs = (self.prepare, before.rank, *before.fits)
        looks, judging = models, 0.0
        if kind == "best":
            looks, judging = len(before.fits), self._judging(images * (len(before.fits) + 1))
            params |= {"kind": kind, **self._thresholds(), "models": how.models}
            inputs += self.graders
            inputs += (before.label,) if before.label else ()
        elif kind == "views":
            params |= {"kind": kind, "views": how.views, "seed": [self.seed, number]}
            params |= {"augmentation": asdict(config.ladder.views[STRENGTHS.index("mid")])}
            looks = how.views + config.make_task().extra_views
        elif kind == "ensemble":
            params |= {"kind": kind}
        else:
            # one network agrees with itself everywhere: nothing to filter by
            filtered = _filters(config) and models > 1
            params["choose"] = "filtered" if filtered else "all"
            params["morphology"] = asdict(how.policy.morphology)
            if kind == "inconsistency" and how.policy.extra:
                params["extra"] = how.policy.extra
        return Job(
            kind="choose" if kind == "best" else "label",
            params=params,
            inputs=inputs,
            label=f"{self._where(number)}: pseudo-labels",
            weight=judging + self._predicting(approach, number - 1, images * looks),
        )

    def _grade(self, number: int, before: Generation, label: Job) -> Job:
        how = self.config.how
        return Job(
            kind="grade",
            params={
                **self._common(),
                **self._thresholds(),
                "by": self.approach.copies,
                "models": how.models,
                "morphology": asdict(how.policy.morphology),
            },
            inputs=(self.prepare, label, before.rank, *before.fits, *self.graders),
            label=f"{self._where(number)}: grades",
            weight=self._judging(self.config.images["unlabeled"]) if self.graders else 0.0,
        )

    @cached_property
    def graders(self) -> tuple[Job, ...]:
        """The EvalNets of this line, after the job that ranks them; none where none are asked."""
        config, how, approach = self.config, self.config.how, self.approach
        if not approach.teachers and not how.quality:
            return ()
        plain = approach.labels == "best"
        starts = approach.teachers or (approach.start or approach.name,)
        recipe = how.recipe if approach.start else self.lengthened(how.generations + 1)
        taught = [self._fits(find_approach(name), 0, recipe, name=name) for name in starts]
        task = config.make_task()
        network = EvalNetConfig(
            in_channels=config.preparation.channels,
            mask_channels=task.outputs,
            classes=task.outputs,
            detection=task.detects,
            width=how.grader_width * config.ladder.width,
            norm_momentum=how.grader.norm_momentum,
        )
        per_image = len(taught) * how.start_candidates + 1 if plain else how.loops[0]
        steps = how.grader.total_steps(config.images["labeled"] * per_image)
        name = "EvalNet" if plain else f"EvalNet for {starts[0]}"
        fits = tuple(
            Job(
                kind="grader",
                params={
                    **self._common(),
                    "network": asdict(network),
                    "recipe": asdict(how.grader),
                    "pairs": "plain" if plain else "inconsistent",
                    "loops": list(how.loops),
                    "groups": len(taught),
                    "first": FIRST_TEACHERS,
                    "seed": [self.seed, candidate],
                    "threads": config.threads,
                },
                inputs=(self.prepare, *(job for group in taught for job in group)),
                label=f"seed {self.seed}  {name}: candidate {candidate + 1} of {how.graders}",
                weight=cost.grading(config) * how.grader.batch * steps,
            )
            for candidate in range(how.graders)
        )
        rank = Job(
            kind="rank_graders",
            params={"keep": KEPT_GRADERS},
            inputs=fits,
            label=f"seed {self.seed}  {name}: rank",
            weight=0.0,
        )
        return (rank, *fits)

    def _predicting(self, approach: Approach, number: int, images: int) -> float:
        """Cost of predicting so many images by a network of this generation."""
        networks = self._networks(approach, number, self.config.how.recipe)
        each = sum(cost.of_network(one, self.config) for one in networks) / len(networks)
        return cost.FORWARD * each * images

    def _judging(self, pairs: int) -> float:
        """Cost of asking the best EvalNets about so many pairs."""
        asked = min(self.config.how.models, self.config.how.graders)
        return cost.FORWARD * cost.grading(self.config) * pairs * asked

    def _thresholds(self) -> dict[str, Any]:
        ladder = self.config.ladder
        fixed = self.config.how.thresholds == "ladder"
        return {"thresholds": list(ladder.thresholds) if fixed else None, "keep_at": ladder.keep_at}

    def _common(self) -> dict[str, Any]:
        return {"task": self.config.task_json(), "device": self.config.device}

    def _where(self, number: int, name: str | None = None) -> str:
        text = f"seed {self.seed}  {name or self.approach.name}"
        return f"{text}  generation {number}" if number else text


def _filters(config: RunConfig) -> bool:
    asked = config.how.policy.filter
    return config.make_task().filtered if asked is None else asked
