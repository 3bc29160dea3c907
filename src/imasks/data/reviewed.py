"""What a data set becomes when a person's decisions are taken into account."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from imasks.data.checksum import digest_of
from imasks.data.decisions import DECISIONS, HEAD, Decision, Decisions
from imasks.data.folder import Dataset, Review, Sample
from imasks.errors import UserError

REVIEWED = "reviewed"  # a run's own copy of the decisions it learns from
COUNTING = ("accepted", "rejected")


def apply_review(dataset: Dataset, folder: Path) -> Dataset:
    """Move accepted images with their masks to the labeled ones and take rejected ones out.

    Validation and test images stay as they are.

    Args:
        dataset: as it lies on the disk.
        folder: of the decisions.

    Returns:
        The data set with other splits, and `review` saying what was done.

    Raises:
        UserError: it is no review of such a data set, nothing is accepted or rejected, a mask is
            missing, or an image is not the one that was looked at.
    """
    folder = folder.resolve()
    decisions = Decisions.open(folder, dataset.card)
    counting = {k: one for k, one in decisions.read_all().items() if one.state in COUNTING}
    if not counting:
        raise UserError(
            f"{folder} holds no accepted and no rejected image",
            remedy="Review some with `imasks review`, or leave --review out.",
        )
    accepted, rest = [], []
    unlabeled = {sample.name: sample for sample in dataset.splits["unlabeled"]}
    for name, sample in unlabeled.items():
        decision = counting.get(name)
        if decision is None:
            rest.append(sample)
            continue
        _check_image(sample, decision, folder)
        if decision.state == "accepted":
            accepted.append(replace(sample, masks=_masks(decisions, decision), apart=True))
    used = {name: one for name, one in counting.items() if name in unlabeled}
    labeled = sorted((*dataset.splits["labeled"], *accepted), key=lambda sample: sample.name)
    return replace(
        dataset,
        splits={**dataset.splits, "labeled": tuple(labeled), "unlabeled": tuple(rest)},
        review=Review(
            folder=str(folder),
            digest=_digest(used, decisions),
            accepted=tuple(sample.name for sample in accepted),
            corrected=tuple(sample.name for sample in accepted if used[sample.name].changed),
            rejected=tuple(name for name, one in used.items() if one.state == "rejected"),
            unused=tuple(name for name in counting if name not in used),
        ),
    )


def keep_review(dataset: Dataset, folder: Path) -> None:
    """Copy the decisions that a data set was changed by, with their masks, to another folder.

    The copy can be used like the original. What was in the folder is replaced.

    Raises:
        UserError: the decisions changed in the meantime.
    """
    review = dataset.review
    assert review is not None
    source = Path(review.folder)
    decisions = Decisions.open(source, dataset.card)
    partial = folder.with_name(f".{folder.name}.tmp")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    files = [HEAD]
    for name in (*review.accepted, *review.rejected):
        decision = decisions.read(name)
        if decision is None:
            raise _moving(source)
        files += [f"{DECISIONS}/{name}.json", *decision.masks]
    for file in files:
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source / file, partial / file)
        except FileNotFoundError as error:
            raise _moving(source) from error
    copied = Decisions.open(partial, dataset.card)
    if _digest(copied.read_all(), copied) != review.digest:
        raise _moving(source)
    partial.replace(folder)


def _check_image(sample: Sample, decision: Decision, folder: Path) -> None:
    if digest_of(sample.image) != decision.image:
        raise UserError(
            f"{sample.image} is not the image that was reviewed in {folder}",
            value=f"version {decision.version} of the decision, {decision.time}",
            remedy="Restore the image, or review it again.",
        )


def _masks(decisions: Decisions, decision: Decision) -> tuple[Path, ...]:
    paths = decisions.mask_paths(decision)
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"{path}, the mask of an accepted image, is missing",
                remedy="Restore it, or accept the image again.",
            )
    return paths


def _digest(used: Mapping[str, Decision], decisions: Decisions) -> str:
    """Digest what training depends on: not when, nor in how many attempts, it was decided."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(used):
        one = used[name]
        paths = decisions.mask_paths(one) if one.state == "accepted" else ()
        content = [name, one.state, one.image, [digest_of(path) for path in paths]]
        total.update(json.dumps(content).encode())
    return total.hexdigest()


def _moving(folder: Path) -> UserError:
    return UserError(
        f"the decisions in {folder} changed while they were read",
        remedy="Run the same command again.",
    )
