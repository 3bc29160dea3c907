"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.models.weights import load_tensors, save_tensors
from imasks.training.batches import mix
from imasks.training.descent import Descent
from imasks.training.flat import Flat
from imasks.training.objectives import Objective
from imasks.training.recipe import Recipe

Log = Callable[[Mapping[str, float | int]], None]
Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Fitted(Generic[Network]):
    """A trained candidate.

    Args:
        network: with the weights of the best epoch, in evaluation mode.
        epoch: the best one, counted from 1.
        selection: its validation value by the objective's rule; larger is better.
        steps: optimiser steps made.
        pairs: training pairs.
    """

    network: Network
    epoch: int
    selection: float
    steps: int
    pairs: int


def seeded_network(
    make: Callable[[Config, torch.device], Network],
    config: Config,
    *,
    seed: int,
    device: torch.device,
) -> Network:
    """Build a network whose initial weights depend on the seed alone.

    Args:
        make: for example :func:`imasks.models.unet.make_unet`.
        config: what ``make`` builds.
        seed: the one that :func:`fit` is given too.
        device: to build on.
    """
    torch.manual_seed(mix(seed, 0))
    return make(config, device)


def fit(
    network: Network,
    objective: Objective,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    log: Log = lambda record: None,
) -> Fitted[Network]:
    """Train one network and return it at its best epoch.

    The same arguments on the same machine with the same number of threads give the same numbers,
    also if the process was killed on the way and started again: after every epoch the complete
    state is written to ``checkpoint``, and every batch depends on the seed and its number alone.

    Args:
        network: untrained, see :func:`seeded_network`, or one to go on from; trained in place.
        objective: what is to be made small, and by what epochs are compared.
        recipe: how to train.
        seed: of what is drawn inside the network; the objective has its own.
        device: where the network lies.
        checkpoint: a file to go on from if it exists, and to write to; None writes nothing.
        log: called after every epoch with epoch, step, steps, loss, selection and what the
            objective measures.

    Raises:
        UserError: the loss is no longer a finite number, or the checkpoint is of another training.
    """
    total = recipe.steps_of(objective.steps_per_epoch)
    state = _State(network, recipe, device=device)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    ends = [round(total * (e + 1) / recipe.evaluations) for e in range(recipe.evaluations)]
    ends = sorted({end for end in ends if end > 0})
    for epoch, end in enumerate(ends, start=1):
        if end <= state.step:
            continue
        loss = _train(state, objective, recipe, until=end, total=total, seed=seed)
        verdict = objective.measure(state.shown)
        state.epoch = epoch
        state.keep(verdict.selection, better_only=recipe.select != "last")
        if checkpoint is not None:
            state.save(checkpoint)
        log(
            {
                "epoch": epoch,
                "step": end,
                "steps": total,
                "loss": loss,
                "selection": verdict.selection,
                **verdict.record,
            }
        )
    return Fitted(
        network=state.best_network(),
        epoch=state.best_epoch,
        selection=state.best_selection,
        steps=total,
        pairs=objective.pairs,
    )


def _train(
    state: _State[Network],
    objective: Objective,
    recipe: Recipe,
    *,
    until: int,
    total: int,
    seed: int,
) -> float:
    """Make the steps up to ``until`` and return their mean loss."""
    state.network.train()
    torch.manual_seed(mix(seed, 3, state.step))  # dropout is the only user of the global generator
    losses = []
    for step in range(state.step, until):
        loss = objective.loss(state.network, step)
        state.descent.step(loss, rate=recipe.learning_rate_at(step, total))
        state.average(step)
        losses.append(loss.detach())
    state.step = until
    mean = float(torch.stack(losses).mean())
    if not isfinite(mean):
        raise UserError(
            f"the loss is no longer a finite number at step {until}",
            value=mean,
            remedy="Start a new run in another --out with --precision float32, or with another "
            "seed if it trains so already.",
        )
    return mean


class _State(Generic[Network]):
    """All that changes while training: weights, optimiser, average, the best epoch so far."""

    def __init__(self, network: Network, recipe: Recipe, *, device: torch.device) -> None:
        self.device = device
        self.network = network
        self.ema = recipe.ema
        self.averaged = deepcopy(network).eval() if recipe.ema else None
        self.descent = Descent(network, recipe)
        if self.averaged is not None:  # collected once: a step on small images is short
            flat = self.descent.flat
            if flat is None:
                pairs = _pairs(self.averaged.state_dict(), network.state_dict())
            else:
                pairs = _pairs(dict(self.averaged.named_buffers()), dict(network.named_buffers()))
                pairs.append((Flat(self.averaged).weights.data, flat.weights.data))
            self.means = [mean for mean, _ in pairs if mean.is_floating_point()]
            self.news = [new for mean, new in pairs if mean.is_floating_point()]
            self.counts = [(mean, new) for mean, new in pairs if not mean.is_floating_point()]
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.best_selection = float("-inf")
        self.epoch = 0
        self.step = 0

    @property
    def shown(self) -> Network:
        """The network that is validated and kept, in evaluation mode."""
        return (self.network if self.averaged is None else self.averaged).eval()

    def average(self, step: int) -> None:
        if self.averaged is None:
            return
        decay = min(self.ema, (1 + step) / (10 + step))  # the first weights are soon forgotten
        with torch.no_grad():
            torch._foreach_lerp_(self.means, self.news, 1 - decay)
            for mean, new in self.counts:
                mean.copy_(new)

    def keep(self, selection: float, *, better_only: bool) -> None:
        if selection > self.best_selection or not self.best or not better_only:
            self.best = {k: v.detach().clone() for k, v in self.shown.state_dict().items()}
            self.best_selection, self.best_epoch = selection, self.epoch

    def best_network(self) -> Network:
        network = deepcopy(self.network)
        network.load_state_dict(self.best)
        return network.eval()

    def save(self, path: Path) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        if self.averaged is not None:
            tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for index, moments in self._moments().items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        about = {
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best_selection": self.best_selection,
        }
        save_tensors(path, tensors, about)

    def load(self, path: Path) -> None:
        tensors, about = load_tensors(path)
        try:
            self._restore(tensors, about)
        except (KeyError, IndexError, RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} does not hold the state of this training",
                value=error,
                remedy="Delete the file and run the same command again.",
            ) from error

    def _moments(self) -> dict[int, dict[str, Tensor]]:
        """Return what the optimiser keeps of every variable, however the weights lie."""
        flat, variables = self.descent.flat, self.descent.variables
        if flat is None:
            states: dict[int, dict[str, Tensor]] = self.descent.optimiser.state_dict()["state"]
            return states
        state = self.descent.optimiser.state.get(flat.weights, {})
        parts = {
            k: flat.views(v) if v.ndim else [v.clone() for _ in variables] for k, v in state.items()
        }
        return {i: {k: v[i] for k, v in parts.items()} for i in range(len(variables)) if parts}

    def _restore(self, tensors: dict[str, Tensor], about: dict[str, object]) -> None:
        flat, variables = self.descent.flat, self.descent.variables
        optimiser = self.descent.optimiser
        if flat is None:
            variables = [v for group in optimiser.param_groups for v in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimiser.", tensors).items():
            index, key = name.split(".", 1)
            # The fused step walks weights and moments side by side in memory. Files hold no
            # strides, so the moments are laid out anew like the (channels-last) weights.
            like = variables[int(index)] if tensor.ndim else tensor
            if tensor.shape != like.shape:
                raise ValueError(f"{name} is {list(tensor.shape)}, not {list(like.shape)}")
            moments.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(tensor)
        if flat is not None and moments:
            moments = {0: _joined(flat, [moments[i] for i in range(len(variables))])}
        self.network.load_state_dict(_below("network.", tensors))
        if self.averaged is not None:
            self.averaged.load_state_dict(_below("averaged.", tensors))
        self.best = {k: v.to(self.device) for k, v in _below("best.", tensors).items()}
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.epoch = int(str(about["epoch"]))
        self.step = int(str(about["step"]))
        self.best_epoch = int(str(about["best_epoch"]))
        self.best_selection = float(str(about["best_selection"]))


def _pairs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the states of two equal networks side by side; they share memory with the networks."""
    return list(zip(one.values(), other.values(), strict=True))


def _joined(flat: Flat, each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what the optimiser keeps of all weights, from what it kept of every one."""
    joined = {}
    for key, first in each[0].items():
        joined[key] = first
        if first.ndim:
            joined[key] = torch.empty_like(flat.weights)
            for view, one in zip(flat.views(joined[key]), each, strict=True):
                view.copy_(one[key])
    return joined


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
