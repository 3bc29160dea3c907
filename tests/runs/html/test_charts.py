import re

import pytest

from imasks.runs.figures.style import Look
from imasks.runs.html.charts import Series, line_chart, nice_ticks, scatter_chart

LOOK = Look(color="#000000", dashes=(0, (5, 1.5)), marker="s")


def chart(*series, **more):
    given = {"title": "t", "alt": "a", "xlabel": "x", "ylabel": "y"} | more
    return line_chart(series, **given)


def numbers(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.34, [0.31, 0.315, 0.32, 0.325, 0.33, 0.335, 0.34]),
        (3, 1997, [0, 500, 1000, 1500, 2000]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_ticks_of_a_single_value_surround_it():
    ticks = nice_ticks(0.5, 0.5)
    assert ticks[0] < 0.5 < ticks[-1]


def test_higher_is_further_up_and_later_is_further_right():
    (stroke,) = chart(Series(name="n", points=[(0, 0.2), (1, 0.8)], look=LOOK)).strokes
    x0, y0, x1, y1 = numbers(stroke.path)
    assert x1 > x0
    assert y1 < y0
    assert stroke.color == "currentColor"  # black would vanish on a dark page
    assert stroke.dashes == "9 2.7"


def test_a_level_crosses_the_whole_plot():
    level = Series(name="n", points=[(0, 0.5)], look=LOOK, level=True)
    drawn = chart(Series(name="m", points=[(0, 0.2), (2, 0.8)], look=LOOK), level)
    x0, _, x1, _ = numbers(drawn.strokes[1].path)
    assert (x0, x1) == (drawn.left, drawn.right)
    assert not drawn.strokes[1].markers
    assert drawn.strokes[0].markers


def test_whiskers_end_at_the_limits():
    series = Series(name="n", points=[(0, 0.9), (1, 0.5)], spread=[0.3, None], look=LOOK)
    free, held = chart(series), chart(series, limits=(0, 1))
    assert float(free.yticks[-1].text) > 1
    assert float(held.yticks[-1].text) == 1
    assert numbers(held.strokes[0].whiskers)[2] == held.yticks[-1].at
    assert held.strokes[0].whiskers.count("V") == 1


def test_tiny_differences_look_tiny():
    series = Series(name="n", points=[(0, 0.998), (1, 0.999)], look=LOOK)
    ticks = [float(tick.text) for tick in chart(series, least=0.05, limits=(0, 1)).yticks]
    assert ticks[0] <= 0.975
    assert ticks[-1] == 1


def test_generations_are_whole_numbers():
    drawn = chart(Series(name="n", points=[(0, 0.1), (3, 0.2)], look=LOOK), whole=True)
    assert [tick.text for tick in drawn.xticks] == ["0", "1", "2", "3"]


def test_equal_scores_lie_on_the_diagonal():
    drawn = scatter_chart(
        [(0.0, 0.0), (1.0, 1.0)], title="t", alt="a", xlabel="x", ylabel="y", caption="c"
    )
    assert numbers(drawn.diagonal) == [value for dot in drawn.dots for value in dot]
