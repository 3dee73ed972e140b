"""Where each key stands in TOML text; ``tomllib`` keeps the values and forgets the lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+ | \#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"{3}(?:[^\\]|\\.)*?"{3,5} | '{3}.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
      | (?P<mark>[][{}=.,])
      | (?P<bare>[^][{}=.,"'\#\s]+)""",
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1, of every table and every key outside inline tables; ``text`` is valid TOML.

    ``max_pages`` under ``[split]`` is ``("split", "max_pages")``, as is ``split.max_pages`` at the top. A table has the
    line of its header (of several, the last), without one the line that names it first.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for line, tokens in _statements(text):
        if tokens[0] == "[":
            keys = table = _key(tokens)
        else:
            keys = (*table, *_key(tokens[: tokens.index("=")]))
        for length in range(1, len(keys)):
            lines.setdefault(keys[:length], line)
        lines[keys] = line
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each table header and each key with its value: the line it begins on and its tokens."""
    line = first_line = 1
    depth = 0
    tokens: list[str] = []
    for match in _TOKEN.finditer(text + "\n"):
        token = match.group()
        if match.lastgroup == "newline" and depth == 0 and tokens:
            yield first_line, tokens
            tokens = []
        elif match.lastgroup not in ("blank", "newline"):
            first_line = first_line if tokens else line
            tokens.append(token)
            depth += (token in ("[", "{")) - (token in ("]", "}"))
        line += token.count("\n")


def _key(tokens: list[str]) -> tuple[str, ...]:
    parts = [token for token in tokens if token not in ("[", "]", ".")]
    return tuple(tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part for part in parts)
