"""What counts as word for word, and what never does; each pair is a quote and the text of a page."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.normal_form import normal_form, origins
from pipeline.passages import Text
from pipeline.quotes import find, find_across, nearest, quote, running_lines

unhurried = settings(deadline=None, max_examples=50)

FEE = "The Supplier may increase the fees at any time in its sole discretion."


def stands(words: str, page: str) -> bool:
    return bool(find(quote(words), Text(page)))


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (FEE, f"4.1 {FEE} 4.2 More."),
        (FEE, FEE.replace(" ", "\r\n")),
        (FEE, "The Sup-\r\nplier may in\u00adcrease the fees at any time in its sole discre\x02\r\ntion."),
        (FEE.upper(), FEE),
        ("‘final’ – offer", "the ﬁnal — oﬀer"),
        ('"Confidential Information" means all', "“Conﬁdential Information” means\xa0all"),
        ("for Käufer", "for K¨aufer"),
        ("for Käufer", unicodedata.normalize("NFD", "for Käufer")),
        ("Straße der Einheit", "STRASSE DER EINHEIT"),
        ("area of 20 m²", "area of 20 m2 in all"),
        ("• The fee is due", "The fee is due"),
        ("- The fee is due", "The fee is due"),
        ("EUR 5–10 a day", "EUR 5 - 10 a day"),
        ("298,000 596,000 each", "in row 2 298,000 596,000 each"),
        ("for the tenant’s own use", "not for the landlord's but for the tenant's own use"),
        ("between 2024-\n2025 only", "between 2024\u20132025 only"),
        ("第三方不得披露", "一、第三方\r\n不得披露。"),
        ("甲方可以单方面解除合同", "约定，甲方可以单方面解除合同。"),
        ("הספק רשאי להעלות", "הספק\u200f רשאי  להעלות"),
        ("within ٣٠ days", "within 30 days"),
        ("The Buyer shall pay [...] The price is fixed", "The Buyer shall pay. No tax is due. The price is fixed"),
        ("The Buyer shall … be liable for loss", "The Buyer shall in that case be liable for loss"),
        ("Payment ....... 7", "Payment . . . . . . . . 7"),
        ("The Buyer shall pay .... The price is fixed", "The Buyer shall pay. No tax is due. The price is fixed"),
        ("Overview of risks .......... 27 Identification", "Overview of risks ............ 27 Identification"),
        ("No 5 Mill Lane", "at No 5 Mill Lane"),
        ("5 Mill Lane", "at No 5 Mill Lane"),
    ],
)
def test_what_copying_changes_is_forgiven(words: str, page: str) -> None:
    """White space, hyphens, ligatures, marks, dashes, case, bullets and what an ellipsis leaves out."""
    assert stands(words, page)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("a fee of 15 a day", "a fee of 1.5 a day"),
        ("Overview of risks .......... Identification of all", "Overview of risks .......... 27 Identification of all"),
        (
            "Overview of risks . . . . . . Identification of all",
            "Overview of risks . . . . . . 27 Identification of all",
        ),
        ("Overview of risks ………… Identification of all", "Overview of risks ………… 27 Identification of all"),
        ("a fee of 1,5 a day", "a fee of 1.5 a day"),
        ("a fee of 5 a day", "a fee of -5 a day"),
        ("a fee of −5 a day", "a fee of 5 a day"),
        ("a fee of −-5 a day", "a fee of −5 a day"),
        ("a fee of 510 a day", "a fee of 5 10 a day"),
        ("a fee of 102 a day", "a fee of 10² a day"),
        ("a fee of 12 a day", "a fee of 1/2 a day"),
        ("a loss of 500 in all", "a loss of (500) in all"),
        ("a loss of $500 in all", "a loss of €500 in all"),
        ("a loss of 500 in all", "a loss of $500 in all"),
        ("a share of 5 in all", "a share of 5% in all"),
        ("a share of 5%", "a share of 5‰"),
        ("is limited to 10", "is limited to 10 000 EUR"),
        ("000 EUR in all of it", "limited to 10 000 EUR in all of it"),
        ("is limited to 10", "is limited to 10\u202f000,50 EUR"),
        ("is limited to EUR 5", "is limited to EUR 5 million"),
        ("Millionen Euro im Jahr", "5,5 Millionen Euro im Jahr"),
        ("interest of 5", "interest of 5 per cent a year"),
        ("interest of 5", "interest of 5½ a year"),
        ("interest of 5", "interest of 5 1/2 a year"),
        ("5 million in the year", "a result of minus 5 million in the year"),
        ("$500 is due in all", "A$500 is due in all"),
        ("The Supplier can", "The Supplier can’t terminate"),
        ("renewable for a year", "it isn't renewable for a year"),
        ("renewable for a year", "it is “not” renewable for a year"),
        ("renewable for a year", "it is *not* renewable for a year"),
        ("renewable for a year", "it is non–renewable for a year"),
        ("renewable for a year", f"it is not{' ' * 90}renewable for a year"),
        ("renewable for a year", "it is no\u200bt\u200b renewable for a year"),
        ("lawful for a year", "it is un\u200blawful for a year"),
        ("if a ≤ b then", "if a ≥ b then"),
        ("if a = b then", "if a ≠ b then"),
        ("☐ exclusive", "☑ exclusive"),
        ("days 5 of grace", "days 0.5 of grace"),
        ("5 days of grace", "15 days of grace"),
        ("5 days of grace", "1.5 days of grace"),
        ("-free days 10", "-free days 100"),
        ("a price of 10", "a price of 10.5"),
        ("a price of 10", "a price of 10 €"),
        ("500 a month", "€ 500 a month"),
        ("10 days of grace", "5 – 10 days of grace"),
        ("The Buyer shall pay", "The Buyer shall not pay"),
        ("The Buyer shall not pay", "The Buyer shall pay"),
        ("be liable for loss", "shall not be liable for loss"),
        ("Der Kunde haftet", "Der Kunde haftet nicht."),
        ("lawful use of data", "unlawful use of data"),
        ("lawful use of data", "un-\r\nlawful use of data"),
        ("exclusive licence", "non-exclusive licence"),
        ("an exclusive lie", "an exclusive lie-\r\nsure"),
        ("the word able", "the word ablement"),
        ("zu fordern ist", "zu fördern ist"),
        ("Ein Cafe", "Ein Café"),
        ("可以单方面解除合同", "甲方不可以单方面解除合同"),
        ("甲方可以解除", "甲方不可以解除"),
        ("The Buyer shall [...] be liable for loss", "The Buyer shall under no terms be liable for loss"),
        ("The Buyer shall ... be liable for loss", "The Buyer shall not be liable for loss"),
        ("The price is fixed […] The Buyer shall pay", "The Buyer shall pay. The price is fixed"),
        ("a … b … c", "a x b x c"),
        ("", "anything"),
        ("…", "any … thing"),
        ("— “” .", "any — thing"),
    ],
)
def test_what_changes_the_meaning_is_never_forgiven(words: str, page: str) -> None:
    """Numbers, signs, currencies, accents and negations, also one that the quote begins or ends just beside."""
    assert not stands(words, page)


def test_a_short_quote_stands_as_whole_words_alone() -> None:
    """It is known for a short one, so that nobody looks for it on other pages."""
    assert stands("Net 30", "Terms: Net 30.")
    assert not stands("Net 3", "Terms: Net 30.")
    assert quote("Net 30").is_short
    assert not quote("甲方可以解除").is_short
    assert not quote(FEE).is_short


def test_a_later_place_counts_where_an_earlier_is_no_whole_word() -> None:
    """The first place that holds is taken."""
    page = Text("unable to end it; able to end it")

    ((start, end),) = find(quote("able to end it"), page)

    assert (start, page.raw[start:end]) == (18, "able to end it")


def test_a_span_holds_the_quote_as_it_stands_there() -> None:
    """Ligatures, hyphens and line ends included."""
    page = Text("1. The ﬁnal sup-\r\nply of (10) tons.")

    ((start, end),) = find(quote("final supply of (10) tons"), page)

    assert page.raw[start:end] == "ﬁnal sup-\r\nply of (10) tons"


PAGES = (
    "Supply Agreement\r\nPage 6 of 9\r\nfirst words of the page. The Supplier may\r\nACME confidential",
    "Supply Agreement\r\nPage 7 of 9\r\nincrease the fees at any time. Last words.\r\nACME confidential",
)


def test_a_quote_goes_on_on_the_next_page() -> None:
    """Headers and footers between its parts are those that several pages have; the span of each page is its own."""
    first, second = map(Text, PAGES)

    found = find_across(quote("The Supplier may increase the fees"), first, second, running_lines([first, second]))

    assert found is not None
    assert first.raw[slice(*found[0])].startswith("The Supplier may")
    assert second.raw[slice(*found[1])].endswith("increase the fees")


@pytest.mark.parametrize("last_line", ["not", "in no event", "5"])
def test_a_line_that_only_one_page_has_is_not_left_out(last_line: str) -> None:
    """It may be the one that matters."""
    first, second = Text(PAGES[0].replace("ACME confidential", last_line)), Text(PAGES[1])

    lines = running_lines([first, second])

    assert find_across(quote("The Supplier may increase the fees"), first, second, lines) is None


@pytest.mark.parametrize(
    ("words", "page", "there"),
    [
        ("shall pay within 30 days", "The Buyer shall pay within 60 days of notice.", "shall pay within 60 days"),
        ("Buyer shall be liable for it", "Buyer shall not be liable for it. y", "Buyer shall not be liable for it"),
        ("be liable for any loss", "The Buyer shall not be liable for any loss", "not be liable for any loss"),
        ("lawful use of data", "any un-\r\nlawful use of data is", "un-\r\nlawful use of data"),
        ("可以单方面解除合同", "甲方不可以单方面解除合同", "不可以单方面解除合同"),
        ("10 days of grace", "has 5 – 10 days of grace.", "5 – 10 days of grace"),
        ("500 a month is due", "so -€500 a month is due", "-€500 a month is due"),
        ("the share of 10", "then the share of 10 % is", "the share of 10 %"),
        ("is limited to EUR 10", "it is limited to EUR 10 000 000 a year", "is limited to EUR 10 000 000"),
        ("is limited to EUR 5", "it is limited to EUR 5 million a year", "is limited to EUR 5 million"),
        ("renewable for years", "it isn't renewable for years.", "isn't renewable for years"),
        ("renewable for years", "it is non–renewable for years.", "non–renewable for years"),
        ("The Supplier can", "The Supplier can't terminate", "The Supplier can't"),
        ("5 million in the year", "was minus 5 million in the year", "minus 5 million in the year"),
    ],
)  # fmt: skip
def test_the_words_that_a_quote_was_changed_from_are_named(words: str, page: str, there: str) -> None:
    """From the beginning of a word to the end of one, with the negation that was left out."""
    near = nearest(quote(words), Text(page))

    assert near is not None
    assert page[slice(*near.span)] == there


def test_other_words_are_not_near() -> None:
    """Half of a quote must stand there, in one place."""
    scattered = " ".join(f"{word} filler filler filler filler filler filler filler" for word in FEE.split())

    assert nearest(quote(FEE), Text("The Tenant keeps the Premises clean and pays for repairs that it causes.")) is None
    assert nearest(quote(FEE), Text(scattered)) is None
    assert nearest(quote("."), Text(".")) is None


@unhurried
@given(st.text(max_size=200))
def test_each_character_of_a_normal_form_comes_from_one_of_the_text(raw: str) -> None:
    """In the same order, but for an accent and its letter."""
    places = origins(raw)

    assert len(places) == len(normal_form(raw))
    assert all(0 <= place < len(raw) for place in places)


@unhurried
@given(st.text(max_size=60), st.text(alphabet="ab1.,- ’(…不not\n", max_size=60))
def test_anything_can_be_looked_for_anywhere(words: str, page: str) -> None:
    """Whatever a quote is made of; and what is found is a part of the page."""
    text = Text(page)
    near = nearest(quote(words), text)
    spans = [*find(quote(words), text), *([near.span] if near else [])]

    assert all(0 <= start < end <= len(page) for start, end in spans)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("a" * 100_000, "a" * 99_999 + "b"),
        ("a" * 50_000 + "b" + "a" * 50_000, "a" * 200_000),
        ("ab" * 50_000, "ba" * 50_000),
        ("a b " * 25_000, "a b " * 26_000),
        ("\x00\x01" * 50_000, "\x00\x01" * 50_000),
        ("the … " * 16_000, "the " * 20_000),
        ("abcdefgh … " * 9_000, "abcdefgh " * 10_000),
        ("not " * 25_000, "a not " * 16_000),
        ("( 1" * 33_000, "(1.1" * 25_000),
        ("..." * 33_000, "." * 100_000),
        ("¨" * 100_000, "¨ü" * 50_000),
        ("- " * 50_000 + "1", "- " * 50_000),
        ("able" * 5, ("unable" * 5 + " ") * 3_000),
    ],
)
def test_a_hostile_quote_takes_no_longer_than_its_size(words: str, page: str) -> None:
    """100,000 characters on a page of as many take a fraction of a second, where a quadratic search takes minutes."""
    begun = time.process_time()

    sought, text = quote(words), Text(page)
    find(sought, text)
    nearest(sought, text)
    find_across(sought, text, text, running_lines([text, text]))

    assert time.process_time() - begun < 3
