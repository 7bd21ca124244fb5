"""The documentation says what the code does: every row, link, field, metric and target is alive."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from records.__main__ import reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def rows_of(page: Path) -> list[list[str]]:
    lines = page.read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return [row for row in cells if not set(row[0]) <= {"-", " ", ":"}]


def test_the_configuration_page_is_what_the_code_prints() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference(), "run: python -m records > docs/configuration.md"


def test_every_row_of_the_method_page_names_a_function_and_a_test_that_exist() -> None:
    rows = [row for row in rows_of(ROOT / "docs" / "method.md") if "`" in row[1]]
    assert len(rows) >= 15
    for _, function, test, *_ in rows:
        for name in re.findall(r"`([a-z_.]+)`", function):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name
        for name in re.findall(r"`([^`]+::[^`]+)`", test):
            path, _, test_name = name.partition("::")
            tree = ast.parse((ROOT / "tests" / path).read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert test_name in names, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_read_from_the_environment_is_documented() -> None:
    page = (ROOT / "docs" / "howto" / "deploy.md").read_text()
    pattern = re.compile(r"""["']((?:CONCORD_[A-Z_]+)|DATABASE_URL|REDIS_URL)["']""")
    for folder in ("webapp", "workers", "embedded", "annotation", "registry"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in pattern.findall(path.read_text()):
                assert f"`{name}`" in page, f"{name} of {path.name} is not in docs/howto/deploy.md"


def test_every_make_target_named_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "up", "lint", "bench"} <= targets
    assert named <= targets, named - targets
