"""Hostile text on one line."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text import encodable, printable, shortened

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
unhurried = settings(deadline=None)


@unhurried
@given(ANY_TEXT)
def test_nothing_in_printable_text_can_steer_a_terminal(text: str) -> None:
    """Whatever goes in, no control, format, surrogate or line character comes out, and UTF-8 can write it."""
    shown = printable(text)

    assert not {unicodedata.category(c) for c in shown} & STEERING
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


@unhurried
@given(st.binary())
def test_any_file_name_is_printable(name: bytes) -> None:
    """Bytes that are not UTF-8 come out as escapes of the bytes themselves."""
    printable(os.fsdecode(name)).encode("utf-8")


@unhurried
@given(ANY_TEXT)
def test_printing_twice_changes_nothing_more(text: str) -> None:
    """What is printable stays as it is."""
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("text", ["", "plain words.pdf", "Ünïcödé 合同 العربية", 'it\'s "quoted"', "50\u00a0€", "😀"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Letters of every script, quotes and spaces are not escaped."""
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202efdp.exe", r"\u202efdp.exe"),
        ("a\u200bb", r"a\u200bb"),
        ("\u2028", r"\u2028"),
        (os.fsdecode(b"\xff.pdf"), r"\xff.pdf"),
        ("\ud83d", r"\ud83d"),
        ("\x9b", r"\x9b"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_steers_is_shown_as_an_escape(text: str, shown: str) -> None:
    """Line ends, terminal sequences, bidi overrides and undecodable bytes are told apart by their escapes."""
    assert printable(text) == shown


@unhurried
@given(ANY_TEXT)
def test_encodable_text_can_be_written_and_keeps_its_length(text: str) -> None:
    """Only halves of surrogate pairs change, each into one question mark."""
    result = encodable(text)

    result.encode("utf-8")
    assert [new for new, old in zip(result, text, strict=True) if new != old] == ["?"] * sum(
        unicodedata.category(c) == "Cs" for c in text
    )


@unhurried
@given(ANY_TEXT, st.integers(1, 40))
def test_shortened_text_is_one_line_within_its_limit(text: str, limit: int) -> None:
    """However long and broken the text, one line of at most so many characters comes out."""
    line = shortened(text, limit)

    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")


def test_shortening_marks_the_cut() -> None:
    """A cut text ends in an ellipsis; one that fits exactly does not."""
    assert shortened("abcdef", 5) == "abcd…"
    assert shortened("abcde", 5) == "abcde"
    assert shortened("  a\n\n b\t", 5) == "a b"
