"""Which encoders there are, where their weights lie, and how their images were normalised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from imasks.errors import UserError
from imasks.models import optional
from imasks.models.encoded import MEAN, STD

WEIGHTS, ABOUT = "model.safetensors", "config.json"  # names of files in a repository of weights


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder that a library has.

    Args:
        name: with the tag of its weights, if there are any.
        family: "smp": under a decoder of segmentation_models.pytorch; "vit": under our own head.
        repository: where its weights lie on the Hugging Face hub; None: there are none.
        revision: of the repository; None: the newest.
        norm: mean and standard deviation of every channel; None: a file beside the weights says.
    """

    name: str
    family: Literal["smp", "vit"]
    repository: str | None = None
    revision: str | None = None
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def find_encoder(name: str) -> Encoder:
    """Look an encoder up.

    Args:
        name: one of segmentation_models.pytorch, one of timm with `tu-` before it, or that of a
            vision transformer of timm. A tag after a dot says which weights.

    Raises:
        UserError: there is none of that name.
    """
    base, _, tag = name.partition(".")
    known = optional.smp().encoders.encoders
    if base in known:
        return _of_smp(base, tag, known[base]["pretrained_settings"])
    models = optional.timm().models
    plain = name.removeprefix("tu-")
    if not models.is_model(plain):
        near = get_close_matches(base, {*known, *models.list_models()}, n=3)
        raise UserError(
            "there is no such encoder",
            value=name,
            remedy=f"Did you mean {' or '.join(near)}?"
            if near
            else "See https://smp.readthedocs.io/en/latest/encoders.html and timm.list_models().",
        )
    try:
        about = models.get_pretrained_cfg(plain)
    except RuntimeError as error:
        raise UserError(
            "timm knows no such weights",
            value=name,
            remedy="Leave out what follows the dot, or see timm's list of pretrained networks.",
        ) from error
    return _of_timm(name, "vit" if plain == name else "smp", about)


def locate(encoder: Encoder, given: Path | None) -> tuple[Path, Encoder]:
    """Find the file of an encoder's weights: the one given, or one from the hub or its cache.

    Returns:
        The file, and the encoder with its normalisation.

    Raises:
        UserError: there is none, it is no safetensors file, or it cannot be downloaded.
    """
    if given is None:
        file = _download(encoder, WEIGHTS)
        about = _download(encoder, ABOUT) if encoder.norm is None else None
    else:
        file, about = given, given.parent / ABOUT
        if file.suffix != ".safetensors" or not file.is_file():
            raise UserError(
                "weights of an encoder must be a safetensors file",
                value=given,
                remedy="Give the file's path; other formats can run code of a stranger's.",
            )
    if encoder.norm is not None:
        return file, encoder
    assert about is not None
    mean, std = _read_norm(about, encoder)
    return file, Encoder(**{**vars(encoder), "norm": (mean, std)})


def _of_smp(base: str, tag: str, settings: dict[str, Any]) -> Encoder:
    tag = tag or next(iter(settings), "")
    if tag not in settings:
        raise UserError(
            f"the encoder {base} has no such weights",
            value=tag,
            remedy=f"Known: {', '.join(settings)}.",
        )
    where = settings[tag]
    return Encoder(
        name=f"{base}.{tag}",
        family="smp",
        repository=where["repo_id"],
        revision=where["revision"],
    )


def _of_timm(name: str, family: Literal["smp", "vit"], about: Any) -> Encoder:
    if about is None:
        return Encoder(name=name, family=family, norm=(MEAN, STD))
    tagged = name if "." in name or not about.tag else f"{name}.{about.tag}"
    return Encoder(
        name=tagged,
        family=family,
        repository=about.hf_hub_id,
        norm=(tuple(about.mean or MEAN), tuple(about.std or STD)),
    )


def _download(encoder: Encoder, file: str) -> Path:
    if encoder.repository is None:
        raise UserError(
            "there are no weights of this encoder to begin with",
            value=encoder.name,
            remedy="Use --no-pretrained, or give a file with --encoder-weights.",
        )
    hub = optional.hub()
    hub.logging.set_verbosity_error()  # every one of its retries would be told; the end is enough
    try:
        return Path(hub.hf_hub_download(encoder.repository, file, revision=encoder.revision))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise UserError(
            f"the weights of {encoder.name} cannot be downloaded: {file} of the Hugging Face "
            f"repository {encoder.repository}",
            value=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Without a connection, "
            f"{_how(encoder)} on another machine and give --encoder-weights FOLDER/{WEIGHTS}; or "
            "begin at random with --no-pretrained.",
        ) from error


def _how(encoder: Encoder) -> str:
    files = [WEIGHTS] if encoder.norm is not None else [WEIGHTS, ABOUT]
    at = "" if encoder.revision is None else f" at revision {encoder.revision}"
    return f"download {' and '.join(files)} of that repository{at}"


def _read_norm(about: Path, encoder: Encoder) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        found = json.loads(about.read_text(encoding="utf-8"))
        mean, std = _numbers(found["mean"]), _numbers(found["std"])
        if (found.get("input_space") or "RGB") != "RGB" or len(mean) != len(std):
            raise ValueError("channels must be red, green, blue")
        top = float((found.get("input_range") or (0, 1))[1])
        return tuple(m / top for m in mean), tuple(s / top for s in std)
    except (OSError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{about} must say how images for {encoder.name} were normalised",
            value=f"{type(error).__name__}: {error}",
            remedy=f"Put {ABOUT} of {encoder.repository} beside the weights, or write one: "
            '{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]} of values in 0..1.',
        ) from error


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
