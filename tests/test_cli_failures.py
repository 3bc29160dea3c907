import pytest

from imasks.cli import main
from imasks.jobs import JobFailed


@pytest.mark.parametrize("written", [True, False])
def test_a_traceback_is_promised_only_where_there_is_one(tmp_path, monkeypatch, capsys, written):
    if written:
        (tmp_path / "error.json").write_text("{}")

    def fail():
        raise JobFailed(label="IM", folder=tmp_path, message="was lost")

    monkeypatch.setattr("imasks.cli.commands.app", fail)
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    text = capsys.readouterr().err
    assert "IM: was lost" in text
    assert ("error.json" in text) == written
