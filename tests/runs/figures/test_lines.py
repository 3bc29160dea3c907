from imasks.approaches.recipes import APPROACHES
from imasks.runs.figures.lines import Curve, Panel, describe, lines_figure, spread_note
from imasks.runs.figures.style import listed, looks
from imasks.runs.summary import Spread


def curve(name, *values, first=1, level=False, deviation=0.01, count=3):
    points = {
        first + at: Spread(mean=value, deviation=deviation, count=count)
        for at, value in enumerate(values)
    }
    return Curve(name=name, points=points, level=level)


def panel(*curves, title="cells"):
    return Panel(title=title, data=title, ylabel="test IoU", curves=curves)


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}


def test_curves_and_levels_are_drawn_where_they_are():
    one = panel(curve("LDT", 0.5, first=0, level=True), curve("IM", 0.5, 0.6, 0.7, first=0))
    (axes,) = lines_figure([[one]]).axes
    drawn = lines(axes)
    assert list(drawn["IM"].get_xdata()) == [0, 1, 2]
    assert list(drawn["IM"].get_ydata()) == [0.5, 0.6, 0.7]
    assert list(drawn["LDT"].get_ydata()) == [0.5, 0.5]
    assert tuple(drawn["LDT"].get_xdata()) == axes.get_xlim()
    (band,) = [c for c in axes.collections if c.get_label().startswith("_child")][-1:]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (round(heights.min(), 6), round(heights.max(), 6)) == (0.49, 0.71)


def test_one_seed_has_no_band():
    one = panel(curve("IM", 0.5, 0.6, deviation=None, count=1))
    (axes,) = lines_figure([[one]]).axes
    assert len(axes.collections) == 0
    assert spread_note([one]) == "One seed: no spread."
    assert spread_note([panel(curve("IM", 0.5))]).startswith("Means over 3 seeds")


def test_approaches_differ_without_colour_and_without_dashes():
    names = [f"approach {number}" for number in range(9)]
    found = [looks(names)[name] for name in names]
    assert len({look.marker for look in found}) == len(names)
    assert len({(look.color, str(look.dashes)) for look in found}) == len(names)


def test_a_known_approach_looks_the_same_beside_any_other():
    assert looks(["IM"])["IM"] == looks(["new", "IM", "LDT"])["IM"]


def test_levels_look_different():
    found = looks([])
    names = [approach.name for approach in APPROACHES.values() if approach.start is None]
    assert len(names) > 3
    assert len({(found[name].color, found[name].dashes) for name in names}) == len(names)


def test_every_name_stands_once_in_the_legend_of_several_panels():
    first = panel(curve("IM", 0.5, 0.6), curve("LDT", 0.4, first=0, level=True))
    second = panel(curve("IM", 0.3), curve("IM+", 0.3, 0.4))
    figure = lines_figure([[first, second], [second, None]])
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ["IM", "IM+", "LDT"]
    assert not figure.axes[3].axison


def test_a_description_holds_the_numbers():
    text = describe([panel(curve("IM", 0.5, 0.6), curve("LDT", 0.7, first=0, level=True))], "x")
    assert text == (
        "Line chart of x over generations. cells, highest first: LDT 0.700±0.010; "
        "IM from 0.500±0.010 in generation 1 to 0.600±0.010 in generation 2."
    )


def test_lists_as_sentences():
    assert (listed("a"), listed("ab"), listed("abc")) == ("a", "a and b", "a, b and c")


def test_a_legend_of_long_names_stays_inside():
    names = ["IM", *(f"IM im-input=black im-label=blank models={number}" for number in range(11))]
    figure = lines_figure([[panel(*(curve(name, 0.5, 0.6) for name in names))]])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_many_curves_have_bars_beside_one_another_in_place_of_bands():
    many = panel(*(curve(f"approach {number}", 0.5, 0.6) for number in range(9)))
    (axes,) = lines_figure([[many]]).axes
    starts = sorted(float(line.get_xdata()[0]) for line in lines(axes).values())
    assert len(set(starts)) == len(starts)
    assert starts[-1] - starts[0] < 0.1
    assert {len(each.get_segments()) for each in axes.collections} == {2}  # bars of two points
    assert "bands" not in spread_note([many])
    assert "bands" in spread_note([panel(curve("IM", 0.5, 0.6))])
    assert "bands" not in spread_note([panel(curve("IM", 0.5))])  # they would have no width


def test_markers_of_crowded_panels_stay_off_the_edges():
    for values in ((0.5,), (0.5, 0.6)):
        many = panel(*(curve(f"approach {number}", *values) for number in range(20)))
        (axes,) = lines_figure([[many]]).axes
        left, right = axes.get_xlim()
        places = [x for line in lines(axes).values() for x in line.get_xdata()]
        assert min(places) - left > 0.03
        assert right - max(places) > 0.03


def test_one_generation_is_no_two():
    (axes,) = lines_figure([[panel(curve("IM", 0.5), curve("IM+", 0.6))]]).axes
    assert [int(tick) for tick in axes.get_xticks()] == [1]
