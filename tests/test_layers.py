"""The direction of imports: a module may import only from layers above its own."""

import ast
from pathlib import Path

import pytest

import imasks

ROOT = Path(imasks.__file__).parent
LAYERS = [
    ["errors", "encoding", "extras"],
    ["jobs"],
    ["tasks"],
    ["data"],
    ["kernels"],
    ["prepare"],
    ["models"],
    ["training", "labelling"],
    ["approaches"],
    ["runs"],
    ["exchange", "review", "deploy"],
    ["api", "demo"],
    ["cli", "__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "imasks" and len(parts) > 1 else None


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imported(path):
        other = layer(module)
        if other is not None and other != own:
            assert LEVEL[other] <= LEVEL[own], f"{path} imports {module}"


def test_every_module_has_a_layer():
    assert {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in MODULES} == set(LEVEL)
