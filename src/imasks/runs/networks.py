"""From the encoders and networks that a user names to configurations, and their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from typing import Any

from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.models.catalogue import find_encoder, locate
from imasks.models.contract import check_contract
from imasks.models.encoded import MEAN, STD, EncodedConfig
from imasks.models.networks import NetworkConfig, build, check_weights, describe, stride_of
from imasks.models.own import OwnConfig
from imasks.models.smp import SmpConfig, find_decoder
from imasks.models.unet import UNetConfig
from imasks.models.vit import VitConfig
from imasks.runs.options import Options

FOLDER = "encoders"  # of a run: the weights that its encoders begin with
UNKNOWN = ""  # a digest that is still to be found
SMP_RATE, VIT_RATE = 0.1, 0.0  # learning rates of pretrained encoders in those of the rest
OURS = "unet"  # the name of our own network among encoders


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One name that the user gave, and the file of weights beside it."""

    name: str
    decoder: str
    file: Path | None


def choose_networks(options: Options) -> tuple[NetworkConfig, ...]:
    """Look up all networks that are asked for; none if the U-Net alone is.

    Their channels are those of the smallest networks there are; :func:`fitted` sets them.

    Raises:
        UserError: a name is unknown, or an option is about encoders where none is given.
    """
    members = list(_members(options))
    networks = [_network(member, options) for member in members]
    networks += [OwnConfig(in_channels=1, outputs=1, factory=n) for n in _names(options.network)]
    if options.width is not None and networks and not any(map(_is_unet, networks)):
        raise UserError(
            "a width is that of U-Nets, and none is asked for",
            value=f"width = {options.width:g}",
            remedy="Leave it out, or name unet among the encoders.",
        )
    return () if all(map(_is_unet, networks)) else tuple(networks)


def step_of(networks: Sequence[NetworkConfig], channels: int) -> int:
    """Tell of what heights and widths of images must be multiples for all networks."""
    return lcm(*(stride_of(replace(one, in_channels=channels)) for one in networks))


def fitted(
    networks: Sequence[NetworkConfig], *, in_channels: int, outputs: int
) -> tuple[NetworkConfig, ...]:
    """Give networks the channels of a data set."""
    return tuple(replace(one, in_channels=in_channels, outputs=outputs) for one in networks)


def check_networks(networks: Sequence[NetworkConfig], *, size: tuple[int, int], batch: int) -> None:
    """Build each network once, and see that it keeps the contract of all networks.

    Raises:
        UserError: one cannot be built or does not; the message says what is wrong.
    """
    for number, config in enumerate(networks):
        if isinstance(config, UNetConfig) or config in networks[:number]:
            continue
        check_contract(
            build(config),
            name=describe(config),
            in_channels=config.in_channels,
            outputs=config.outputs,
            size=size,
            batch=min(2, batch),
        )


def with_weights(
    networks: Sequence[NetworkConfig], options: Options, there: Sequence[NetworkConfig] | None
) -> tuple[NetworkConfig, ...]:
    """Add digests and normalisation of the weights that encoders begin with.

    Args:
        networks: as :func:`choose_networks` chose them.
        options: the user's wishes.
        there: networks of the run, if it has begun. It keeps copies of its weights, so that they
            are not looked for again unless a file is given that is still there.

    Raises:
        UserError: weights cannot be found or downloaded.
    """
    begun = list(there or ())
    given = any(Path(name).exists() for name in _names(options.encoder_weights))
    if len(begun) == len(networks) and not given:
        pairs = zip(networks, begun, strict=True)
        return tuple(_as_before(one, old) for one, old in pairs)
    found = []
    for one, file in _located(networks, options):
        if file is not None and isinstance(one, EncodedConfig):
            check_weights(one, file)  # better now than in the first job
        found.append(one)
    return tuple(found)


def keep_weights(folder: Path, networks: Sequence[NetworkConfig], options: Options) -> None:
    """Copy the weights that encoders begin with into a run's folder, under their digests."""
    for one, file in _located(networks, options):
        if file is not None and isinstance(one, EncodedConfig) and one.weights:
            kept = folder / FOLDER / f"{one.weights}.safetensors"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(kept, file.read_bytes())


def kept_weights(folder: Path, config: NetworkConfig) -> Path | None:
    """Find what :func:`keep_weights` kept for a network; None for networks without.

    Raises:
        UserError: the file is gone.
    """
    if not isinstance(config, EncodedConfig) or config.weights is None:
        return None
    path = folder / FOLDER / f"{config.weights}.safetensors"
    if not path.exists():
        raise UserError(
            f"{path} is gone, with the weights that {config.encoder} begins with",
            remedy="Restore it, or start a new run with another --out.",
        )
    return path


def _members(options: Options) -> Iterator[_Member]:
    names = _names(options.encoder)
    about = ("decoder", "pretrained", "encoder_weights", "encoder_rate")
    given = [name for name in about if getattr(options, name) is not None]
    if given and not names:
        raise UserError(
            "this is said about an encoder, and none is given",
            value=", ".join(given),
            remedy="Name one with --encoder, or leave it out.",
        )
    decoders = _for_each("decoder", _names(options.decoder) or ("unet",), names)
    files = _names(options.encoder_weights)
    if files and options.pretrained is False:
        raise UserError(
            "an encoder begins at random or with weights from a file, not both",
            value=f"encoder_weights = {options.encoder_weights}",
            remedy="Leave out --no-pretrained.",
        )
    if files and len(files) != len(names):
        raise UserError(
            "there must be one file of weights for each encoder",
            value=f"{len(files)} for {len(names)}",
            remedy="Give as many to --encoder-weights as to --encoder, with commas.",
        )
    for i, name in enumerate(names):
        yield _Member(name=name, decoder=decoders[i], file=Path(files[i]) if files else None)


def _network(member: _Member, options: Options) -> NetworkConfig:
    if member.name.lower() == OURS:
        return UNetConfig(in_channels=1, outputs=1)
    encoder = find_encoder(member.name)
    available = encoder.repository is not None or member.file is not None
    wanted = available if options.pretrained is None else options.pretrained
    pretrained = VIT_RATE if encoder.family == "vit" else SMP_RATE
    rate = (pretrained if wanted else 1.0) if options.encoder_rate is None else options.encoder_rate
    mean, std = encoder.norm if encoder.norm and wanted else (MEAN, STD)
    common: dict[str, Any] = {
        "in_channels": 1,
        "outputs": 1,
        "encoder": encoder.name if wanted else encoder.name.partition(".")[0],
        "weights": UNKNOWN if wanted else None,
        "mean": mean,
        "std": std,
        "rate": rate,
    }
    if encoder.family == "vit":
        return VitConfig(**common)
    return SmpConfig(**common, decoder=find_decoder(member.decoder))


def _located(
    networks: Sequence[NetworkConfig], options: Options
) -> Iterator[tuple[NetworkConfig, Path | None]]:
    """Yield networks with all that is known of their weights, and the file of these."""
    files = [member.file for member in _members(options)]
    files += [None] * (len(networks) - len(files))  # networks of one's own come last
    for one, given in zip(networks, files, strict=True):
        if not isinstance(one, EncodedConfig) or one.weights is None:
            yield one, None
            continue
        file, encoder = locate(find_encoder(one.encoder), given)
        assert encoder.norm is not None
        mean, std = encoder.norm
        yield replace(one, weights=_digest(file), mean=mean, std=std), file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _as_before(one: NetworkConfig, old: NetworkConfig) -> NetworkConfig:
    """Take over the weights of a run, if it began with the same encoder."""
    if not isinstance(one, EncodedConfig) or not isinstance(old, EncodedConfig):
        return one
    if one.weights != UNKNOWN or old.encoder != one.encoder:
        return one
    return replace(one, weights=old.weights, mean=old.mean, std=old.std)


def _names(text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise UserError("a name is missing", value=repr(text), remedy="Give one, or leave it out.")
    return names


def _for_each(option: str, given: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    if len(given) == 1:
        return given * max(1, len(names))
    if len(given) != len(names):
        raise UserError(
            f"there must be one {option} for all encoders, or one for each",
            value=f"{len(given)} for {len(names)}",
            remedy=f"Give as many to --{option} as to --encoder, with commas.",
        )
    return given


def _is_unet(network: NetworkConfig) -> bool:
    return isinstance(network, UNetConfig)
