"""What a model's name tells."""

from __future__ import annotations

import pytest

from pipeline.models import facts


@pytest.mark.parametrize(
    ("name", "prompt_tokens", "page_image_tokens"),
    [
        ("claude-haiku-5-5", 90_000, 2_240),
        ("claude-sonnet-5-5", 800_000, 2_240),
        ("claude-opus-5", 800_000, 2_240),
        ("claude-opus-4-7", 800_000, 2_240),
        ("claude-sonnet-4-6", 800_000, 1_568),
        ("claude-sonnet-4-5", 150_000, 1_568),
        ("claude-sonnet-4-5-20250929", 150_000, 1_568),
        ("claude-sonnet-4-20250514", 150_000, 1_568),
        ("offline-rules-1", 150_000, 1_568),
        ("somebody-elses-model", 150_000, 1_568),
    ],
)
def test_a_name_tells_the_room_and_the_price_of_a_page(name: str, prompt_tokens: int, page_image_tokens: int) -> None:
    """By its version; one that says nothing has the least room."""
    model = facts(name)

    assert (model.prompt_tokens, model.page_image_tokens) == (prompt_tokens, page_image_tokens)
    assert model.page_tokens(0) == page_image_tokens


def test_an_image_may_come_to_more_than_the_picture_of_a_page() -> None:
    """Since 4.7 to three times as much as before."""
    assert [facts(name).image_tokens for name in ("claude-sonnet-4-6", "claude-haiku-5-5")] == [1_568, 4_784]


def test_the_tokenizer_since_4_7_makes_more_of_the_same_text() -> None:
    """By about 30 %."""
    old, new = (facts(name).page_tokens(100_000) - facts(name).page_image_tokens for name in ("claude-4-6", "claude-5"))

    assert new / old == pytest.approx(1.3, abs=0.01)
