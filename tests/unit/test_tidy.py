"""The rules of the house that ruff and mypy do not check: sizes, the root of shared/, circles, names, reasons."""

from __future__ import annotations

import ast
import graphlib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_TEST_NAME_CHARS = 60
ROOT_OF_SHARED = {"__init__.py", "bootstrap.py", "clock.py", "engine.py", "errors.py", "generation.py", "secret.py"}

_LIMIT_NAME = re.compile(r"_?(MOST|LEAST|LARGEST|SMALLEST|LONGEST|SHORTEST|BIGGEST|HIGHEST|LOWEST|FEWEST)_[A-Z0-9_]+")
_NOQA = re.compile(r"#\s*noqa\b")
_NOQA_WITH_REASON = re.compile(r"# noqa: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - [`\w]")

PRODUCT = sorted(path for folder in ("shared", "functions") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def too_long_functions(tree: ast.Module) -> list[str]:
    """The functions of a module that exceed MAX_FUNCTION_LINES, decorators and docstring included."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - min([node.lineno, *(item.lineno for item in node.decorator_list)])
        >= MAX_FUNCTION_LINES
    ]


def limit_names(tree: ast.Module) -> set[str]:
    """The constants of a module that name a limit with another word than MAX or MIN."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and _LIMIT_NAME.fullmatch(node.id)
    }


def imports_at_module_level(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name) of what runs when the module is imported: not inside functions, not for the type checker only."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def import_graph(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> the modules of `trees` that it imports. `from a import b` is an import of a.b where that is a module."""
    graph: dict[str, set[str]] = {}
    for module, tree in trees.items():
        edges = {
            f"{source}.{name}" if f"{source}.{name}" in trees else source
            for source, name in imports_at_module_level(tree)
        }
        graph[module] = edges & trees.keys() - {module}
    return graph


def circle_in(trees: dict[str, ast.Module]) -> list[str]:
    """The modules of one import circle, in order; empty if there is none."""
    try:
        graphlib.TopologicalSorter(import_graph(trees)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_is_too_long() -> None:
    assert [name_of(path) for path in PRODUCT if len(path.read_text().splitlines()) > MAX_MODULE_LINES] == []


def test_no_function_is_too_long() -> None:
    assert {name_of(path): names for path in PRODUCT if (names := too_long_functions(parsed(path)))} == {}


def test_a_long_function_is_found() -> None:
    body = "    pass\n" * MAX_FUNCTION_LINES
    assert too_long_functions(ast.parse(f"def long():\n{body}")) == ["long"]
    assert too_long_functions(ast.parse(f"def short():\n{body[:-9]}")) == []


def test_root_of_shared_holds_only_the_listed_modules() -> None:
    assert {path.name for path in (ROOT / "shared").glob("*.py")} == ROOT_OF_SHARED


def test_every_folder_with_modules_is_a_package() -> None:
    """Without an __init__.py a folder of shared/ would have no line that says what it is for."""
    folders = {path.parent for path in (ROOT / "shared").rglob("*.py")}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_import_circle() -> None:
    trees = {
        name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__"): parsed(path) for path in PRODUCT
    }
    assert circle_in(trees) == []


@pytest.mark.parametrize(
    ("source", "is_circle"),
    [
        ("from shared.a import f", True),
        ("from shared import a", True),
        ("class C:\n    import shared.a", True),
        ("def f():\n    import shared.a", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shared.a", False),
        ("import json", False),
    ],
)
def test_a_circle_is_found(source: str, is_circle: bool) -> None:
    """Only imports that run when a module is imported count."""
    trees = {"shared.a": ast.parse("import shared.b"), "shared.b": ast.parse(source)}
    assert bool(circle_in(trees)) == is_circle


def test_limits_are_named_max_and_min() -> None:
    found = {name_of(path): names for path in [*PRODUCT, *TESTS] if (names := limit_names(parsed(path)))}
    assert found == {}


def test_a_limit_with_another_name_is_found() -> None:
    assert limit_names(
        ast.parse("MOST_X = 1\n_LONGEST_Y: int = 2\nMAX_Z = MOSTLY = LATEST_MS = 3\nprint(LEAST_W)")
    ) == {
        "MOST_X",
        "_LONGEST_Y",
    }


def too_long_test_names(tree: ast.Module) -> list[str]:
    """The test functions whose names, without parametrised ids, exceed MAX_TEST_NAME_CHARS."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > MAX_TEST_NAME_CHARS
    ]


def test_no_test_name_is_too_long() -> None:
    """What the name does not say belongs in its docstring, in one sentence."""
    assert {name_of(path): names for path in TESTS if (names := too_long_test_names(parsed(path)))} == {}


def test_a_long_test_name_is_found() -> None:
    name = "test_" + "x" * (MAX_TEST_NAME_CHARS - 5)
    assert too_long_test_names(ast.parse(f"class T:\n    async def {name}y(self): ...\ndef {name}(): ...")) == [
        f"{name}y"
    ]


def test_every_noqa_has_a_reason() -> None:
    """`# noqa: CODE - reason`."""
    assert [
        f"{name_of(path)}:{number}"
        for path in [*PRODUCT, *TESTS]
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _NOQA.search(line) and not _NOQA_WITH_REASON.search(line)
    ] == []


def test_every_ignored_ruff_rule_has_a_reason() -> None:
    """A comment on the same line, after each rule and each file that pyproject.toml exempts."""
    text = (ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    lines = text.splitlines()
    for key in [*lint["ignore"], *lint["per-file-ignores"]]:
        found = [line for line in lines if line.strip().startswith(f'"{key}"')]
        assert len(found) == 1, key
        assert re.search(r" {2}# \w", found[0]), f"{key} is ignored without a reason"
