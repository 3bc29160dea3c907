"""The commands that give a run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from imasks.runs.options import Options


def commands_of(
    data: str,
    out: str,
    approaches: Sequence[str],
    seeds: Sequence[int],
    asked: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write the commands that train the same, in their order.

    Args:
        data: the data folder.
        out: a run folder.
        approaches: names.
        seeds: of the run; other than 0, 1, 2, ... only the first, as the command line gives them.
        asked: options that differ from the defaults.
    """
    more = [*option_flags(asked), "--out", out]
    train = ["imasks", "train", data, "--approach", approaches[0]]
    if len(approaches) == 1 and len(seeds) == 1:
        return (shlex.join([*train, *_seed(seeds[0]), *more]),)
    names = ["--approaches", ",".join(approaches)]
    count = max(seeds) + 1 if tuple(seeds) == tuple(range(len(seeds))) else len(seeds) - 1
    study = shlex.join(["imasks", "study", data, *names, "--seeds", str(max(1, count)), *more])
    if count == len(seeds):
        return (study,)
    return (shlex.join([*train, *_seed(seeds[0]), *more]), study)


def option_flags(asked: Mapping[str, Any]) -> list[str]:
    """Write options as the command line takes them."""
    hints = get_type_hints(Options)
    words: list[str] = []
    for name, value in asked.items():
        flag = f"--{name.replace('_', '-')}"
        if hints.get(name) in (bool, bool | None):  # of another version, it may not be known
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


def _seed(seed: int) -> list[str]:
    return ["--seed", str(seed)] if seed else []
