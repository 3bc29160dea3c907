"""The command line knows every format that there is."""

from imasks.cli.exchange import READ, WRITTEN
from imasks.exchange.registry import FORMATS


def test_help_names_every_format():
    assert set(READ) == {name for name, one in FORMATS.items() if one.read}
    assert set(WRITTEN.replace(" or ", ", ").split(", ")) == {
        name for name, one in FORMATS.items() if one.write
    }
