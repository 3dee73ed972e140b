r"""The small markup of the files under ``texts``: plain text in, blocks out.

::

    # title             ## section (a bookmark)    ### part of a section     > centred line
    2.1 a clause        (a) an item                plain words: a paragraph
    | a | b > |         a table row; the first row is the head; its > aligns the column to the right
    @page 21            a new page, which must be page 21
    @sign Party; line; line | Party; line; line

A paragraph may run over several lines and ends at an empty line; every other block is one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_CLAUSE = re.compile(r"(\d+(?:\.\d+)+|\([a-z]\)|\(\d+\))\s+(.*)", re.DOTALL)
_MARKS = ("# ", "## ", "### ", "> ", "| ", "@")


class Kind(Enum):
    """What a block of words is."""

    TITLE = "# "
    SECTION = "## "
    PART = "### "
    CENTRED = "> "
    PARAGRAPH = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A heading, a centred line or a paragraph without a number."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Clause:
    """A numbered paragraph. ``label`` is ``2.1`` or ``(a)``."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equally many cells; the first row is the head. ``figures`` are the columns that align right."""

    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[int]


@dataclass(frozen=True, slots=True)
class Signatures:
    """One column of lines for each party; the first line of a column is the party's name."""

    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class NewPage:
    """A page break. ``number`` is the page that begins, counted from 1."""

    number: int


Block = Words | Clause | Table | Signatures | NewPage


def parse(text: str) -> tuple[Block, ...]:
    """The blocks of ``text`` in their order.

    Raises:
        ValueError: a directive is unknown, or the rows of a table differ in length.
    """
    blocks: list[Block] = []
    paragraph: list[str] = []
    rows: list[str] = []
    for line in [*text.splitlines(), ""]:
        if rows and not line.startswith("| "):
            blocks.append(_table(rows))
            rows = []
        if paragraph and (not line.strip() or line.startswith(_MARKS)):
            blocks.append(_paragraph(" ".join(paragraph)))
            paragraph = []
        if line.startswith("| "):
            rows.append(line)
        elif line.startswith(_MARKS):
            blocks.append(_directive(line) if line.startswith("@") else _heading(line))
        elif line.strip():
            paragraph.append(line.strip())
    return tuple(blocks)


def _heading(line: str) -> Words:
    mark, _, text = line.partition(" ")
    return Words(Kind(mark + " "), text.strip())


def _paragraph(text: str) -> Block:
    match = _CLAUSE.fullmatch(text)
    return Clause(match[1], match[2]) if match else Words(Kind.PARAGRAPH, text)


def _table(lines: list[str]) -> Table:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"rows of different length in the table that begins with {lines[0]!r}")
    figures = frozenset(i for i, cell in enumerate(rows[0]) if cell.endswith(">"))
    head = tuple(cell.removesuffix(">").strip() for cell in rows[0])
    return Table((head, *map(tuple, rows[1:])), figures)


def _directive(line: str) -> Block:
    name, _, rest = line.partition(" ")
    if name == "@page":
        return NewPage(int(rest))
    if name == "@sign":
        return Signatures(tuple(tuple(part.strip() for part in column.split(";")) for column in rest.split("|")))
    raise ValueError(f"no such directive: {line!r}")
