"""How lines look, so that they are told apart in print and by colour-blind people too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imasks.approaches.recipes import APPROACHES
from imasks.approaches.variants import own_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours without yellow, which white paper swallows, and black, which is for levels
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
LEVELS: tuple[tuple[str, Any], ...] = (
    ("#000000", (0, (8, 2))),
    ("#000000", (0, (2, 2))),
    ("#666666", (0, (8, 2, 2, 2))),
    ("#666666", (0, (4, 2, 1, 2, 1, 2))),
    ("#CC79A7", (0, (8, 2))),
    ("#56B4E9", (0, (2, 2))),
    ("#E69F00", (0, (8, 2, 2, 2))),
    ("#009E73", (0, (4, 2, 1, 2, 1, 2))),
)
LETTER = 0.065  # inches, of a letter of the size that names are written in


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour, dashes and marker of one approach."""

    color: str
    dashes: Any
    marker: str

    def line(self) -> dict[str, Any]:
        """Return it as matplotlib's arguments of a line."""
        return {
            "color": self.color,
            "linestyle": self.dashes,
            "marker": self.marker,
            "markersize": 5.2,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
            "linewidth": 1.4,
        }


def looks(names: Iterable[str]) -> Mapping[str, Look]:
    """Give every approach a look, known ones the same in all figures, whoever stands beside them.

    Args:
        names: of approaches; those that are not known come after the known ones.
    """
    known = [*APPROACHES, *(name for name in dict.fromkeys(names) if name not in APPROACHES)]
    curves = [name for name in known if not _is_level(name)]
    levels = [name for name in known if _is_level(name)]
    return {
        **{
            name: Look(
                color=COLORS[at % len(COLORS)],
                dashes=DASHES[at % len(DASHES)],
                marker=MARKERS[at % len(MARKERS)],
            )
            for at, name in enumerate(curves)
        },
        **{
            name: Look(color=color, dashes=dashes, marker="x")
            for name, (color, dashes) in zip(levels, LEVELS * len(levels), strict=False)
        },
    }


def legend_below(figure: Figure, names: Sequence[str], *, columns: int) -> None:
    """Write one legend for all panels, a name once, whichever of them has it."""
    shown = {
        name: handle
        for axes in figure.axes
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles=[shown[name] for name in names],
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=3.2,
    )


def _is_level(name: str) -> bool:
    """Tell whether an approach has no generations, so that it is drawn as a horizontal line."""
    approach = APPROACHES.get(own_name(name))
    return approach is not None and approach.start is None


def listed(names: Iterable[str]) -> str:
    """Write names as a sentence does: a, b and c."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def score_name(primary: str) -> str:
    """Write a score's name as the field does: mIoU."""
    return primary.replace("iou", "IoU")
