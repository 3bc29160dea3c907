from imasks.runs.figures.ranking import Ranking, Reached, describe_ranking, ranking_figure


def reached(name, *scores, generation=1):
    return Reached(name=name, scores=dict(enumerate(scores)), generation=generation)


CELLS = Ranking(
    title="cells",
    xlabel="test IoU",
    reached=(
        reached("LDT", 0.5, 0.6, generation=0),
        reached("IM", 0.7, 0.8),
        reached("worse", 0.1),
    ),
    bounds=("LDT", "FDT"),
)


def test_the_best_approach_stands_at_the_top():
    (axes,) = ranking_figure([CELLS]).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["IM", "LDT", "worse"]
    bottom, top = axes.get_ylim()
    assert top < 0
    assert bottom > 2


def test_every_seed_has_a_dot_and_bounds_have_a_line():
    (axes,) = ranking_figure([CELLS]).axes
    dots = [
        tuple(map(float, place))
        for each in axes.collections
        for place in each.get_offsets()
        if len(each.get_offsets())
    ]
    assert {(0.7, 0), (0.8, 0), (0.5, 1), (0.6, 1), (0.1, 2)} <= set(dots)
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


def test_a_description_names_the_approaches_from_the_highest():
    text = describe_ranking([CELLS])
    assert text.endswith("cells, highest first: IM 0.750±0.071; LDT 0.550±0.071; worse 0.100.")
