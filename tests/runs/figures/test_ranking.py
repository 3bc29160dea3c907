from imasks.runs.figures.ranking import Ranking, Reached, describe_ranking, ranking_figure


def ranking(*reached, seeds=2, bounds=("LDT", "FDT")):
    found = tuple(Reached(name=name, scores=scores) for name, scores in reached)
    return Ranking(title="cells", xlabel="test IoU", reached=found, seeds=seeds, bounds=bounds)


CELLS = ranking(("LDT", (0.5, 0.6)), ("IM", (0.7, 0.8)), ("worse", (0.1,)))


def names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_the_best_approach_stands_at_the_top_and_missing_seeds_are_told():
    (axes,) = ranking_figure([CELLS]).axes
    assert names(axes) == ["IM", "LDT", "worse (1 of 2 seeds)"]
    bottom, top = axes.get_ylim()
    assert top < 0
    assert bottom > 2


def test_every_seed_has_a_dot_and_bounds_have_a_line():
    (axes,) = ranking_figure([CELLS]).axes
    dots = {tuple(map(float, xy)) for each in axes.collections for xy in each.get_offsets()}
    assert {(0.7, 0), (0.8, 0), (0.5, 1), (0.6, 1), (0.1, 2)} <= dots
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [round(float(line.get_xdata()[0]), 6) for line in dashed] == [0.55]


def test_bars_are_standard_errors():
    (axes,) = ranking_figure([CELLS]).axes
    bars = {
        round(float(segment[:, 0].max() - segment[:, 0].min()) / 2, 6)
        for each in axes.collections
        if hasattr(each, "get_segments")
        for segment in each.get_segments()
    }
    assert 0.05 in bars  # half of 0.1, of two seeds


def test_long_names_leave_room():
    long = "IM im-input=black im-label=blank filter=off models=3 thresholds=auto sampling=balanced"
    figure = ranking_figure([ranking(("LDT", (0.5, 0.6)), (long, (0.7, 0.8)))])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    label = axes.get_yticklabels()[0].get_window_extent()
    assert label.x0 >= 0
    assert axes.get_window_extent().width > 3 * figure.dpi


def test_a_description_names_the_approaches_from_the_highest_and_the_bounds():
    text = describe_ranking([CELLS])
    assert "(in words mean ± standard deviation, drawn mean and standard error)" in text
    assert text.endswith(
        "cells, highest first: IM 0.750±0.071; LDT 0.550±0.071; worse (1 of 2 seeds) 0.100. "
        "Dashed lines stand at LDT."
    )
    assert "Dashed" not in describe_ranking([ranking(("IM", (0.5,)), ("IM+", (0.6,)), seeds=1)])
