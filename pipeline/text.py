"""What is shown on one line: hostile text made safe (file names, document text, error bodies), and times."""

from __future__ import annotations

import unicodedata

# Cc control, Cf format (bidi overrides, zero width), Cs lone surrogates (bytes of a file name that are
# not UTF-8), Co private use, Zl and Zp line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""``text`` on one line, with every character that could steer a terminal written as an escape.

    A newline becomes ``\n``, an undecodable byte of a file name ``\xff``, a bidi override ``\u202e``.
    Ordinary letters of every script stay as they are.
    """
    if text.isprintable():  # the common case, decided in C; a space is printable, a newline is not
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNSAFE_CATEGORIES else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte itself (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def encodable(text: str) -> str:
    """``text`` with ``?`` for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def shortened(text: str, limit: int) -> str:
    """``text`` on one line in at most ``limit`` characters, the cut marked by an ellipsis."""
    line = " ".join(encodable(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def moment(iso: str) -> str:
    """An ISO 8601 time in UTC to the minute: ``2026-03-02 02:41 UTC``."""
    return f"{printable(iso[:16].replace('T', ' '))} UTC"
