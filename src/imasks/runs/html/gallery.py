"""The best, the worst and the most disputed images of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from imasks.data.arrays import Arrays, load_arrays
from imasks.labelling.labellers import PseudoLabels
from imasks.models.weights import load_network
from imasks.runs.choice import Chosen
from imasks.runs.colors import as_rgb, overlay
from imasks.runs.figures.style import score_name
from imasks.runs.html.page import Exhibit, Gallery, Still
from imasks.runs.html.pictures import Album, photo
from imasks.runs.html.viewer import Thread, label_score, row_name, shares
from imasks.runs.run import Run
from imasks.tasks import IGNORE, Task
from imasks.training.predict import probabilities

SHOWN = 6  # images of each kind
CPU = torch.device("cpu")


def galleries_of(
    run: Run, chosen: Chosen | None, threads: Sequence[Thread], album: Album, colors: np.ndarray
) -> tuple[Gallery, ...]:
    """Picture what the chosen networks do best and worst, and what networks disagree on most."""
    found: list[Gallery] = []
    if chosen is not None:
        found += _by_score(run, chosen, album, colors)
    disputed = _disputed(run, chosen, threads, album, colors)
    return (*found, disputed) if disputed is not None else tuple(found)


def image_scores(run: Run, chosen: Chosen, split: str) -> np.ndarray | None:
    """Read the score of every image of a split, as the chosen networks together reach it.

    Returns:
        float64 [M], NaN where an image has no score; None where the split is empty, or the run is
        of a version that did not keep these.
    """
    path = run.store.folder(chosen.rank) / f"{split}.json"
    if not path.is_file():
        return None
    primary = run.config.make_task().primary
    return np.array([record[primary] for record in json.loads(path.read_bytes())], np.float64)


def _by_score(run: Run, chosen: Chosen, album: Album, colors: np.ndarray) -> list[Gallery]:
    known = [(split, image_scores(run, chosen, split)) for split in ("test", "val")]
    split, scores = next(((split, each) for split, each in known if each is not None), ("", None))
    if scores is None:
        return []
    arrays = load_arrays(run.store.folder(run.plan.prepare), split)
    if arrays.labels is None:
        return []
    if len(arrays.images) != len(arrays.names):
        why = "Images are cut into tiles here, and scores are those of whole images: no pictures."
        return [Gallery(title="Best and worst", text=why, exhibits=())]
    order = [int(row) for row in np.argsort(scores, kind="stable") if np.isfinite(scores[row])]
    count = min(SHOWN, len(order) // 2)  # no image is both
    rows = {"Worst": order[:count], "Best": order[len(order) - count :][::-1]}
    score, what = score_name(run.config.make_task().primary), _SPLITS[split]
    several = len(chosen.fits) > 1
    who = (
        f"{len(chosen.fits)} networks that predict together" if several else "network that predicts"
    )
    hatched = " Hatched: they disagree." if several else ""
    return [
        Gallery(
            title=title,
            text=f"Of {len(order)} {what} images, those with the {word} {score} of the {who} "
            f"({chosen.approach}, seed {chosen.seed}, generation {chosen.generation}).{hatched}",
            exhibits=tuple(_predicted(run, chosen, arrays, rows[title], scores, album, colors)),
        )
        for title, word in (("Worst", "lowest"), ("Best", "highest"))
    ]


_SPLITS = {"test": "test", "val": "validation"}


def _predicted(
    run: Run,
    chosen: Chosen,
    arrays: Arrays,
    rows: Sequence[int],
    scores: np.ndarray,
    album: Album,
    colors: np.ndarray,
) -> Iterable[Exhibit]:
    """Predict a few images again and picture them."""
    if not rows:
        return
    assert arrays.labels is not None
    task = run.config.make_task()
    networks = [load_network(run.store.folder(fit)) for fit in chosen.fits]
    images = arrays.images[np.array(rows)]
    said = torch.cat([p for _, p in probabilities(networks, images, task, device=CPU)], 1)
    together = task.discrete(said.mean(0), reserved=False).numpy()
    voted = torch.stack([task.discrete(one, reserved=False) for one in said]).numpy()
    for at, row in enumerate(rows):
        differ = (voted[:, at] != voted[0, at]).any((0, 1))
        name = row_name(arrays, row)
        disputed = f"{differ.mean():.1%} disputed"
        note = f"{score_name(task.primary)} {scores[row]:.2f}"
        if len(networks) > 1:
            note += f", {disputed}"
        stills = _stills(
            images[at],
            (together[at], differ, "prediction", disputed),
            arrays.labels[row],
            task,
            colors,
            album,
            name=name,
        )
        if stills:
            yield Exhibit(name=name, note=note, stills=stills)


def _disputed(
    run: Run, chosen: Chosen | None, threads: Sequence[Thread], album: Album, colors: np.ndarray
) -> Gallery | None:
    """Picture the unlabeled images with the largest masks: those that are worth a label by hand."""
    voting = [thread for thread in threads if thread.line.approach.labels == "inconsistency"]
    if not voting:
        return None
    same = [t for t in voting if chosen is not None and t.line.approach.name == chosen.approach]
    thread = (same or voting)[-1]
    generation, pseudo = thread.steps[-1]
    dispute = shares(pseudo.region)
    unlabeled = load_arrays(run.store.folder(run.plan.prepare), "unlabeled")
    rows = [int(row) for row in np.argsort(-dispute, kind="stable")[:SHOWN] if dispute[row] > 0]
    task = run.config.make_task()
    found = []
    for row in rows:
        name = row_name(unlabeled, row)
        truth = None if unlabeled.labels is None else unlabeled.labels[row]
        stills = _stills(
            unlabeled.images[row],
            (np.array(pseudo.labels[row]), np.array(pseudo.region[row]), "pseudo-label", ""),
            truth,
            task,
            colors,
            album,
            name=name,
        )
        if stills:
            note = f"{dispute[row]:.1%} in doubt{_against(pseudo, row, truth, task)}"
            found.append(Exhibit(name=name, note=note, stills=stills))
    return Gallery(
        title="Most disputed",
        text="Unlabeled images on which the networks differ most (hatched), as "
        f"{thread.line.approach.name}, seed {thread.line.seed}, learned them in generation "
        f"{generation}. If you can label a few more by hand, begin here; imasks review leads "
        "through them.",
        exhibits=tuple(found),
    )


def _against(pseudo: PseudoLabels, row: int, truth: np.ndarray | None, task: Task) -> str:
    score = None if truth is None else label_score(pseudo, row, truth, task)
    return "" if score is None else f", {score_name(task.primary)} {score:.2f} outside"


def _stills(
    image: np.ndarray,
    made: tuple[np.ndarray, np.ndarray, str, str],
    truth: np.ndarray | None,
    task: Task,
    colors: np.ndarray,
    album: Album,
    *,
    name: str,
) -> tuple[Still, ...]:
    """Picture an image, what was made of it, and the truth; nothing where the album is full.

    Args:
        image: uint8 [H, W, C].
        made: labels uint8 [P, H, W], disputed pixels bool [H, W], what it is, and more about it.
        truth: uint8 [P, H, W], or None.
        task: what labels mean.
        colors: uint8 [K, 3].
        album: takes the pictures.
        name: of the image.
    """
    labels, doubt, what, more = made
    layers = [(what, more, labels, doubt)]
    if truth is not None:
        layers.append(("truth", "", truth, np.zeros(doubt.shape, np.bool_)))
    drawn = [photo(image)] + [
        photo(tinted(image, each, hatched, task, colors)) for _, _, each, hatched in layers
    ]
    numbers = album.add(*drawn)
    if numbers is None:
        return ()
    captions = [("image", "")] + [(word, said) for word, said, _, _ in layers]
    return tuple(
        Still(
            picture=number,
            caption=word,
            alt=f"{name}: the {word}{f', {said}' if said else ''}",
        )
        for number, (word, said) in zip(numbers, captions, strict=True)
    )


def tinted(
    image: np.ndarray, labels: np.ndarray, doubt: np.ndarray, task: Task, colors: np.ndarray
) -> np.ndarray:
    """Draw internal labels uint8 [P, H, W] on their image, uint8 [H, W, 3].

    Pixels in doubt and those that take no part are hatched; without a class, they stay bare.
    """
    hidden = (labels == IGNORE).any(0)
    known = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    user = task.to_user(torch.from_numpy(known[None]))[0].numpy()
    mask = user if task.name == "multilabel" else user.reshape(doubt.shape)
    drawn = overlay(image, mask, doubt | hidden, task, colors)
    if task.exclusive:  # the reserved index has no colour
        bare = (known[0] == 0) & ~doubt & ~hidden
        drawn[bare] = as_rgb(image)[bare]
    return drawn
