"""What tokens cost, in US dollars per million, with the date when each price was read.

A price that is not known stays unknown: it is never taken for zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.domain import RULES_MODEL, Usage

READ_ON = "2026-11-22"
"""When the table was read: Anthropic's pricing pages and model overviews of October and November 2026."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. ``cache_write`` is that of an entry that lives five minutes."""

    input: float
    output: float
    cache_write: float
    cache_read: float

    def cost_usd(self, usage: Usage) -> float:
        """What ``usage`` comes to."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_write_tokens * self.cache_write
            + usage.cache_read_tokens * self.cache_read
        ) / 1_000_000


_PRICES = {
    "claude-haiku-5-5": Price(0.10, 0.50, 0.125, 0.01),
    "claude-sonnet-5-5": Price(2, 10, 2.50, 0.10),
    "claude-opus-5-5": Price(4, 20, 5, 0.20),
    "claude-fable-5-2": Price(8, 40, 10, 0.20),
    "claude-fable-5-1": Price(10, 50, 12.50, 0.25),
    "claude-opus-5": Price(5, 25, 6.25, 0.50),
    "claude-opus-4-8": Price(5, 25, 6.25, 0.50),
    "claude-opus-4-7": Price(5, 25, 6.25, 0.50),
    "claude-opus-4-6": Price(5, 25, 6.25, 0.50),
    "claude-opus-4-5": Price(5, 25, 6.25, 0.50),
    "claude-sonnet-5": Price(2, 10, 2.50, 0.20),
    "claude-sonnet-4-6": Price(3, 15, 3.75, 0.30),
    "claude-sonnet-4-5": Price(3, 15, 3.75, 0.30),
    "claude-haiku-4-5": Price(1, 5, 1.25, 0.10),
    RULES_MODEL: Price(0, 0, 0, 0),  # our own rules, on this machine
}

# A prompt of more than 100,000 tokens, cached ones included, is billed whole at these.
LONG_PROMPT_TOKENS = 100_000
LONG_PROMPT_PRICES = {"claude-haiku-5-5": Price(0.50, 2.50, 0.625, 0.05)}


_BATCH_SHARE = 0.5  # of every price

_DATE = re.compile(r"-\d{8}$")  # the API may answer with the dated name of the model that was asked


@dataclass(frozen=True, slots=True)
class PriceList:
    """The built-in table, or the job's own prices for every model.

    ``input_usd`` and ``output_usd`` are the job's, per million tokens; both or none.
    """

    input_usd: float | None = None
    output_usd: float | None = None

    def cost_usd(self, model: str | None, usage: Usage | None) -> float | None:
        """What one request costs; None when the model's price, or what was used, is unknown."""
        if usage is None:
            return None
        price = self._price(model, usage)
        if price is None:
            return None
        return price.cost_usd(usage) * (_BATCH_SHARE if usage.batch else 1.0)

    def total_usd(self, model: str, requests: Iterable[Usage]) -> float | None:
        """What several requests cost together; each has its own step of the price."""
        costs_usd = [self.cost_usd(model, usage) for usage in requests]
        known_usd = [cost_usd for cost_usd in costs_usd if cost_usd is not None]
        return sum(known_usd, 0.0) if len(known_usd) == len(costs_usd) else None

    def _price(self, model: str | None, usage: Usage) -> Price | None:
        if model == RULES_MODEL:
            return _PRICES[RULES_MODEL]
        if self.input_usd is not None and self.output_usd is not None:
            # Five-minute cache writes cost 1.25 times and reads 0.1 times the input on most models.
            return Price(self.input_usd, self.output_usd, self.input_usd * 1.25, self.input_usd * 0.1)
        if model is None:
            return None
        prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        table = {**_PRICES, **LONG_PROMPT_PRICES} if prompt_tokens > LONG_PROMPT_TOKENS else _PRICES
        return table.get(model) or table.get(_DATE.sub("", model))
