"""Each key of TOML text has its line, however it is written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.toml_lines import key_lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("split.max_pages = 0", 1),
        ("# [split]\n\n[ split ] # max_pages = 1\n  max_pages = 0", 4),
        ('["split"]\n"max_pages" = 0', 2),
        ("[split]\n'max_pages'=0", 2),
        ('[split]\n"max\\u005fpages" = 0', 2),
        ("[split]\r\nmax_pages = 0\r\n", 2),
        ('[prompt]\nsystem = """\n[split]\nmax_pages = 0 \\"""\n"""\n[split]\nmax_pages = 0', 7),
        ("[prompt]\nsystem = '''\n[split]\nmax_pages = 0\n'''''\n[split]\nmax_pages = 0", 7),
        ('[source]\nexclude = [ # ]\n  "]",\n  """\n""", \'\'\'[\'\'\',\n]\n[split]\nmax_pages = 0', 8),
        ("[prompt]\nsystem = '''x'''' # it's [\n[split]\nmax_pages = 0", 4),
        ('[prompt]\nsystem = """x"""" # 5" [\n[split]\nmax_pages = 0', 4),
        ('title = "# not a comment" # "\n[split]\nmax_pages = 0', 3),
    ],
)
def test_the_line_is_found_in_every_way_to_write_toml(text: str, line: int) -> None:
    """Dotted and quoted keys, strings and arrays over several lines, comments that look like settings."""
    assert tomllib.loads(text)["split"] == {"max_pages": 0}
    assert key_lines(text)["split", "max_pages"] == line


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("\n[a]\n", {("a",): 2}),
        ("a.b = 1\na.c = 2", {("a",): 1, ("a", "b"): 1, ("a", "c"): 2}),
        ("[a.b]\nc = 1\n[a]\nd = 2", {("a", "b"): 1, ("a", "b", "c"): 2, ("a",): 3, ("a", "d"): 4}),
        ('["a.b".c]', {("a.b",): 1, ("a.b", "c"): 1}),
        ("\n[[a]]\n[[a]]", {("a",): 3}),
    ],
)
def test_a_table_has_the_line_of_its_header(text: str, lines: dict[tuple[str, ...], int]) -> None:
    """Without a header it has the line that names it first; of several headers the last counts."""
    assert key_lines(text) == lines


def test_what_stands_in_an_inline_table_has_no_line() -> None:
    """The table itself has one."""
    assert key_lines("\nsplit = { max_pages = 0, a.b = { c = 1 } }") == {("split",): 2}


VALUES = [
    "1",
    "1.5",
    "2020-01-01 10:00:00",
    '"a # [b] \\" = "',
    "'\\'",
    '"""\nk = 1 ""\\\n"""',
    "'''\n[t]\n''''",
    "[\n1, # ]\n[2,\n],\n]",
    "{ k0 = 1 }",
    '""',
    '""""""',
]
BETWEEN = ["", "\n", " # note ' \"\n\n", "\t# [x]\n"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(BETWEEN)), min_size=1, max_size=8))
def test_each_key_has_its_own_line(entries: list[tuple[str, str]]) -> None:
    """Whatever stands before a key, its line is right."""
    text = "[source]\n"
    expected: dict[tuple[str, ...], int] = {("source",): 1}
    for number, (value, between) in enumerate(entries):
        text += between
        expected["source", f"zz{number}"] = text.count("\n") + 1
        text += f"zz{number} = {value}\n"

    assert key_lines(text) == expected
