"""What an exported model file is, and what its model card says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imasks.deploy.about import About
from imasks.runs.model_card import plain


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Args:
        file: the model.
        card: the model card.
        images: validation images that the file was compared with PyTorch on.
        difference: the largest of a probability or quality, at the training size.
        resized: their mean difference, that of the worse of the two, at another size.
        pixels: the largest share of pixels whose label, or place in the inconsistency mask,
            differs.
    """

    file: Path
    card: Path
    images: int
    difference: float
    resized: float
    pixels: float

    def lines(self, about: About, points: tuple[str, ...]) -> Iterator[str]:
        """Write lines of a model card.

        Args:
            about: what the model file says.
            points: classes that mark places.
        """
        yield (
            f"`{self.file.name}` holds the whole ensemble, what is done with images before it, "
            f"and what comes after. Outputs: {', '.join(about.outputs)}."
        )
        yield (
            f"Compared with PyTorch on {self.images} validation images: probabilities and quality "
            f"differ by at most {self.difference:.1g} ({self.resized:.1g} on average where images "
            f"are resized), labels and inconsistency mask at {self.pixels:.2%} of the pixels at "
            "most."
        )
        if points:
            names = ", ".join(map(plain, points))
            yield f"Points ({names}) come as masks: only the run itself counts them."
