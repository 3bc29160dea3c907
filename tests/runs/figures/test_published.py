import pytest

from imasks.errors import UserError
from imasks.runs.figures.lines import Panel
from imasks.runs.figures.published import beside, read_published

CSV = """dataset,metric,approach,generation,test_score
ISIC 2018,IoU,FDT,0,0.7
ISIC 2018,IoU,IM,2,0.6
ISIC 2018,IoU,IM,1,0.5
SUIM,mIoU,IM,1,0.4
"""


def panel(data):
    return Panel(title=data, data=data, ylabel="", curves=())


@pytest.fixture
def published(tmp_path):
    (tmp_path / "p.csv").write_text(CSV)
    return read_published(tmp_path / "p.csv")


def test_published_results_are_read(published):
    isic, suim = published
    fdt, im = isic.curves
    assert (fdt.level, im.level) == (True, False)
    assert [(g, s.mean) for g, s in im.points.items()] == [(1, 0.5), (2, 0.6)]
    assert (isic.ylabel, suim.ylabel) == ("test IoU", "test mIoU")


def test_the_same_data_set_stands_below(published):
    own = [panel("wbc"), panel("isic2018")]
    assert beside(own, published) == [own, [None, published[0]]]


def test_of_other_data_sets_all_stand_below(published):
    own = panel("wbc")
    assert beside([own], published) == [[own, None], published]
    assert beside([own], []) == [[own]]


@pytest.mark.parametrize(
    "text",
    [
        CSV.replace("test_score", "score"),
        CSV.replace("0.4", "much"),
        CSV.replace(",1,0.4", ""),
        CSV.replace(",2,", ",last,"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"line \d of .*p\.csv.*dataset, metric"):
        read_published(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"p\.csv cannot be read"):
        read_published(tmp_path / "p.csv")
