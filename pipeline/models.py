"""What is known of models by their names: how much fits in, and what a page comes to in tokens.

Source: the API's documentation of PDF support, vision and context windows, and the models' overviews, as of
November 2026. A name that says nothing is taken for an older model, which has less room.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline.prices import LONG_PROMPT_PRICES, LONG_PROMPT_TOKENS

_VERSION = re.compile(r"-(\d{1,2})(?:-(\d{1,2}))?(?:-\d{8})?$")


@dataclass(frozen=True, slots=True)
class Model:
    """``prompt_tokens``: a prompt of more is dearer, or leaves no room for the answer.

    ``page_image_tokens``: the picture that the API makes of a page and reads beside its text. ``image_tokens``:
    an image as large as it takes any, as a scan is.
    """

    prompt_tokens: int
    page_image_tokens: int
    image_tokens: int
    characters_per_token: float

    def page_tokens(self, text_chars: int) -> int:
        """What a page with so many characters is likely to come to."""
        return self.page_image_tokens + round(text_chars / self.characters_per_token)


# An upright page, drawn with 1,568 pixels on its longer side, has 40 x 56 patches of 28 x 28 pixels; before 4.7
# no image came to more than 1,568 tokens, since then to no more than 4,784. The tokenizer since 4.7 makes 30 % more
# of the same text.
_BEFORE_4_6 = Model(prompt_tokens=150_000, page_image_tokens=1_568, image_tokens=1_568, characters_per_token=3.5)
_4_6 = replace(_BEFORE_4_6, prompt_tokens=800_000)
_SINCE_4_7 = Model(prompt_tokens=800_000, page_image_tokens=2_240, image_tokens=4_784, characters_per_token=2.7)


def facts(name: str) -> Model:
    """What is known of a model."""
    match = _VERSION.search(name)
    version = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if name in LONG_PROMPT_PRICES:
        return replace(_SINCE_4_7, prompt_tokens=LONG_PROMPT_TOKENS * 9 // 10)
    if version >= (4, 7):
        return _SINCE_4_7
    return _4_6 if version == (4, 6) else _BEFORE_4_6
