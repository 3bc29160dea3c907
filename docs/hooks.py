"""What MkDocs does beside its plugins."""

import re
from typing import Any

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Leave the name, as code, where a docstring says ``:func:`name```."""
    return ROLE.sub("", html)
