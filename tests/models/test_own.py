import re
from pathlib import Path

import pytest

from imasks.errors import UserError
from imasks.models.contract import check_contract
from imasks.models.networks import build
from imasks.models.own import OwnConfig, find_factory, name_of, stride_of
from tests import networks_for_tests as made

HOME = "tests.networks_for_tests"


def config(name):
    return OwnConfig(in_channels=3, outputs=2, factory=name)


def test_a_factory_and_its_name_lead_to_each_other():
    assert name_of(made.small) == f"{HOME}:small"
    assert find_factory(f"{HOME}:small") is made.small
    assert name_of(made.Small) == f"{HOME}:Small"  # a class is a factory, too
    assert isinstance(build(config(f"{HOME}:small")).network, made.Small)


def test_factories_that_only_this_process_has_are_refused():
    def local(in_channels, outputs):
        return made.small(in_channels, outputs)

    for factory in (local, lambda **_: None):
        with pytest.raises(UserError, match="cannot import this network's factory"):
            name_of(factory)
    script = type("Script", (), {"__module__": "__main__"})
    with pytest.raises(UserError, match="the script itself"):
        name_of(script)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("small", "module:function"),
        ("no_such_module:small", "no_such_module cannot be imported.*ModuleNotFoundError"),
        (f"{HOME}:smal", "has no function smal"),
        (f"{HOME}:nn.modules", "has no function"),
        (f"{HOME}:not_a_module", r"must return a torch\.nn\.Module \(found: function"),
        (f"{HOME}:fails", r"outputs=2\) fails .*no such file: backbone\.pt"),
    ],
)
def test_what_is_wrong_with_a_factory_is_named(name, says):
    with pytest.raises(UserError, match=says):
        build(config(name))


def test_the_example_of_the_documentation_keeps_the_contract(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    (code,) = re.findall(r"```python\n# my_networks\.py\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "networks_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    small = config("networks_of_the_page:Small")
    assert stride_of(small) == 8
    check_contract(build(small), name="Small", in_channels=3, outputs=2, size=(24, 32))


def test_modules_are_looked_for_in_the_working_folder(tmp_path, monkeypatch):
    code = "from torch import nn\ndef make(in_channels, outputs): return nn.Identity()\n"
    (tmp_path / "only_here_for_a_test.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert find_factory("only_here_for_a_test:make").__name__ == "make"


def test_the_stride_is_an_attribute_of_the_factory():
    assert stride_of(config(f"{HOME}:small")) == 16
    assert stride_of(config(f"{HOME}:Strided")) == 24
    with pytest.raises(UserError, match=r"stride must be .* \(found: 1\.5\)"):
        stride_of(config(f"{HOME}:WrongStride"))
