"""How the words of a document differ from a quote."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports.presentation import Side, difference, one_line


def marked(quote: str, found: str) -> str:
    """The difference on one line: ``-`` before what only the quote has, ``+`` before what only the document has."""
    signs = {Side.BOTH: "", Side.QUOTE: "-", Side.DOCUMENT: "+"}
    return "|".join(f"{signs[words.side]}{words.text}" for words in difference(quote, found)).rstrip()


@pytest.mark.parametrize(
    ("quote", "found", "expected"),
    [
        ("pay in 30 days.", "pay in 60 days.", "pay in |-30 |+60 |days."),
        ("shall pay", "shall not pay", "shall |+not |pay"),
        ("shall not pay", "shall pay", "shall |-not |pay"),
        ("a b c d e", "a X c Y e", "a |-b |+X |c |-d |+Y |e"),
        ("", "new words", "+new words"),
        ("old words", "", "-old words"),
        ("", "", ""),
        ("end", "end now", "end |+now"),
        ("“no” – it’s ﬁnal", '"no" - it\'s final', '"no" - it\'s final'),
        ("两年内不得竞争", "五年内不得竞争", "-两|+五|年内不得竞争"),
        ("one\n two\x1b", "one two\u202e", "one |-two\\x1b |+two\\u202e"),
    ],
)
def test_a_difference_is_told_word_by_word(quote: str, found: str, expected: str) -> None:
    """What replaces words comes after them; letters stand for words where no blanks part these."""
    assert marked(quote, found) == expected


words = st.text("ab甲 .\n", max_size=40)


@given(words, words)
def test_a_difference_holds_both_texts(quote: str, found: str) -> None:
    """No word of either is lost, added or moved, and nothing is marked in equal texts."""
    runs = difference(quote, found)

    assert "".join(run.text for run in runs if run.side is not Side.QUOTE).rstrip() == one_line(found)
    in_quote = "".join(run.text for run in runs if run.side is not Side.DOCUMENT)
    assert in_quote.replace(" ", "") == one_line(quote).replace(" ", "")
    assert all(run.side is Side.BOTH for run in difference(found, found))


def test_long_differences_are_not_compared_word_by_word() -> None:
    """Where comparing would take minutes, what lies between the equal ends is replaced as a whole."""
    old, new = "a b " * 2_000, "b a a " * 1_500
    begun = time.perf_counter()

    runs = difference(f"Both begin {old}and end", f"Both begin {new}and end")

    assert time.perf_counter() - begun < 2
    assert [run.side for run in runs] == [Side.BOTH, Side.QUOTE, Side.DOCUMENT, Side.BOTH]
    assert (runs[0].text, runs[-1].text) == ("Both begin ", "and end ")
