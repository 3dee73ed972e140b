"""Who may import whom: the contracts of ``pyproject.toml``, and one module for each outside library."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LIBRARIES = sorted(re.split(r"[^A-Za-z0-9_-]", line, maxsplit=1)[0] for line in PROJECT["project"]["dependencies"])
# Of extras: "otel", whose modules a whole family of distributions shares, "ray", and those for URLs.
OPTIONAL = {"opentelemetry", "ray", "fsspec", "aiohttp"}
# Imported by httpx's own transport, and slow to look for in vain: see docs/decisions.md.
NOT_OURS_TO_IMPORT = {"sniffio"}
# What a library or a part of it is imported as, where that is another name.
PART_OF = {"pydantic_core": "pydantic", "PIL": "pillow"}


def imports() -> dict[str, set[str]]:
    """The modules of the program by the top-level package that they import, wherever the import stands."""
    importers: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                importers[PART_OF.get(top, top)].add(module)
    return dict(importers)


IMPORTERS = imports()


@pytest.mark.parametrize("library", sorted(set(LIBRARIES) - NOT_OURS_TO_IMPORT))
def test_each_outside_library_is_known_to_one_module(library: str) -> None:
    """Another library in its place means another text in one file."""
    assert len(IMPORTERS[library]) == 1, IMPORTERS[library]


def test_sql_stands_in_the_ledger_alone() -> None:
    """The standard library's database has one importer too."""
    assert "pipeline.ledger" in IMPORTERS["sqlite3"]
    assert all(module.startswith("pipeline.ledger") for module in IMPORTERS["sqlite3"])


def test_click_is_known_to_the_command_line_alone() -> None:
    """Parsing, colours and echoing stay where a person sits."""
    assert IMPORTERS["click"] <= {"pipeline.cli"}


def test_every_import_is_declared() -> None:
    """No module leans on a library that only another library brings along."""
    outside = set(IMPORTERS) - set(sys.stdlib_module_names) - {"pipeline"}

    assert outside <= {*LIBRARIES, *OPTIONAL}


def test_nothing_is_imported_relatively_or_from_the_tests() -> None:
    """Imports name the whole way, and the program does not know its tests and tools."""
    assert not {"tests", "tools"} & set(IMPORTERS)
    for path in (ROOT / "pipeline").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_bytes()))
        assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level], path


def test_the_contracts_are_kept() -> None:
    """Imports point down, floors do not know each other, and each library has its one importer."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [sys.executable, str(lint), "--no-cache", "--config", "pyproject.toml"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_every_library_has_a_contract() -> None:
    """A new dependency is not forgotten among the contracts."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    forbidden = {name for contract in contracts for name in contract.get("forbidden_modules", [])}

    assert set(LIBRARIES) - NOT_OURS_TO_IMPORT <= {PART_OF.get(name, name) for name in forbidden}
