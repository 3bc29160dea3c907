"""Approaches with settings of their own, so that a study compares settings from shared starts.

"IM im-label=mean" is IM with ``Policy.label`` "mean", whatever the rest of the study does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from imasks.approaches.presets import (
    Budget,
    ClassWeights,
    InputPolicy,
    LabelPolicy,
    Preset,
    Sampling,
    Thresholds,
)
from imasks.errors import UserError

Changes = tuple[tuple[str, str], ...]  # names and values, as typed


def _one_of(choices: Any) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in get_args(choices):
            raise ValueError(f"one of {', '.join(get_args(choices))}")
        return text

    return read


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError("a whole number of at least 1")
    return int(text)


def _side(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and (int(text) == 0 or int(text) % 2)):
        raise ValueError("0 or an odd number of pixels")
    return int(text)


_Reader = Callable[[str], Any]  # raises ValueError with what is allowed
_ALL: Mapping[str, tuple[tuple[str, ...], _Reader]] = {  # where in a preset it stands
    "im-input": (("policy", "input"), _one_of(InputPolicy)),
    "im-label": (("policy", "label"), _one_of(LabelPolicy)),
    "im-erode": (("policy", "morphology", "erode"), _side),
    "im-dilate": (("policy", "morphology", "dilate"), _side),
    "filter": (("policy", "filter"), _switch),
    "models": (("models",), _count),
    "views": (("views",), _count),
    "warm-start": (("warm_start",), _switch),
    "thresholds": (("thresholds",), _one_of(Thresholds)),
    "budget": (("budget",), _one_of(Budget)),
    "sampling": (("sampling",), _one_of(Sampling)),
    "class-weights": (("class_weights",), _one_of(ClassWeights)),
}
SETTINGS = tuple(_ALL)


def own_name(name: str) -> str:
    """Return an approach's name without the settings that follow it."""
    return " ".join(word for word in name.split() if "=" not in word)


def split(name: str) -> tuple[str, Changes]:
    """Take a name such as "IM im-label=mean" apart.

    Returns:
        The approach's own name, and the changes by name, in the order of ``SETTINGS``.

    Raises:
        UserError: a setting is not known, is given twice, or cannot have this value.
    """
    words, plain = name.split(), own_name(name)
    parts = [word.lower().partition("=") for word in words[len(plain.split()) :]]
    pairs = [(key, value) for key, _, value in parts]
    if not all(value for _, value in pairs):  # or a word of the name's own stands there
        raise UserError(
            "settings follow the name of an approach as NAME=VALUE",
            value=name,
            remedy='For example "IM im-label=mean models=3".',
        )
    changes = dict(pairs)
    if len(changes) != len(pairs):
        raise UserError("a setting is given twice", value=name, remedy="Leave one of them out.")
    for key, value in pairs:
        if key not in _ALL:
            raise UserError(
                "no approach has a setting of its own of this name",
                value=f"{key} in {name}",
                remedy=f"Use {', '.join(SETTINGS)}; others are options of the whole study.",
            )
        try:
            _ALL[key][1](value)
        except ValueError as error:
            raise UserError(
                f"{key} must be {error}", value=f"{value} in {name}", remedy="Change it."
            ) from None
    return plain, tuple((key, changes[key]) for key in SETTINGS if key in changes)


def varied(how: Preset, changes: Changes) -> Preset:
    """Return the preset with what an approach changes of it.

    Raises:
        UserError: the result cannot be trained, see :class:`imasks.approaches.presets.Preset`.
    """
    for key, value in changes:
        place, read = _ALL[key]
        how = _put(how, place, read(value))
    return how


def _put(record: Any, place: Sequence[str], value: Any) -> Any:
    """Replace one value in nested data classes."""
    name, *rest = place
    return replace(record, **{name: _put(getattr(record, name), rest, value) if rest else value})
