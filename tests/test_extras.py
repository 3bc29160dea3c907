import sys

import pytest

from imasks.errors import UserError
from imasks.extras import needed


def test_a_library_is_imported():
    assert needed("json.decoder", extra=None, what="it").JSONDecoder


@pytest.mark.parametrize(
    ("extra", "remedy"), [(None, "pip install nothing_of_this$"), ("onnx", r"'imasks\[onnx\]'$")]
)
def test_what_is_missing_is_named_with_what_installs_it(extra, remedy):
    with pytest.raises(UserError, match=rf"^it needs .*found: nothing_of_this\).*{remedy}"):
        needed("nothing_of_this.at_all", extra=extra, what="it")


@pytest.mark.parametrize("broken", ["import json.nothing", "from json import nothing"])
def test_what_a_library_itself_lacks_is_named(broken, tmp_path, monkeypatch):
    (tmp_path / "a_broken_library.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"nothing"):
        needed("a_broken_library", extra="onnx", what="it")
    assert "a_broken_library" not in sys.modules


@pytest.mark.parametrize("error", ["ImportError", "RuntimeError", "OSError"])
def test_a_library_that_does_not_load_is_no_traceback(error, tmp_path, monkeypatch):
    (tmp_path / "a_broken_library.py").write_text(f"raise {error}('operator x does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"cannot be imported.*{error}: operator x"):
        needed("a_broken_library", extra=None, what="it")
