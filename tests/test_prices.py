"""What tokens cost, and that what is unknown stays unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.domain import RULES_MODEL, Usage
from pipeline.prices import PriceList

BUILT_IN = PriceList()
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        (Usage(input_tokens=MILLION), 2.0),
        (Usage(output_tokens=MILLION), 10.0),
        (Usage(cache_write_tokens=MILLION), 2.5),
        (Usage(cache_read_tokens=MILLION), 0.1),
        (Usage(MILLION, MILLION, MILLION, MILLION), 14.6),
        (Usage(3_500, 800), 0.015),
        (Usage(), 0.0),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, cost_usd: float) -> None:
    """US dollars per million, summed over input, output, cache writes and cache reads."""
    assert BUILT_IN.cost_usd("claude-sonnet-5-5", usage) == pytest.approx(cost_usd)


@pytest.mark.parametrize("model", ["claude-unheard-of", "", None, "claude-sonnet-5-5-latest"])
def test_an_unknown_model_has_no_price(model: str | None) -> None:
    """Unknown is None: never 0, never the price of a similar name."""
    assert BUILT_IN.cost_usd(model, Usage(1, 1)) is None


@pytest.mark.parametrize("prices", [BUILT_IN, PriceList(1.0, 1.0)])
def test_unknown_usage_has_no_cost(prices: PriceList) -> None:
    """Without a count of tokens the cost is unknown, whatever the prices."""
    assert prices.cost_usd("claude-sonnet-5-5", None) is None


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        (Usage(100_000, 1_000), 0.0105),
        (Usage(100_001, 1_000), 0.0525005),
        (Usage(1, 1_000, cache_read_tokens=99_999), 0.00150009),
        (Usage(1, 1_000, cache_read_tokens=100_000), 0.0075005),
        (Usage(1, 1_000, cache_write_tokens=99_999), 0.0000001 + 0.0005 + 0.012499875),
        (Usage(1, 1_000, 50_000, 50_000), 0.0025 + 0.0000005 + 0.0025 + 0.03125),
    ],
)
def test_a_long_prompt_of_haiku_is_billed_whole_at_the_higher_price(usage: Usage, cost_usd: float) -> None:
    """Beyond 100,000 tokens of prompt, cached ones included, every token of the request costs more."""
    assert BUILT_IN.cost_usd("claude-haiku-5-5", usage) == pytest.approx(cost_usd, rel=1e-9)


def test_a_batch_costs_half() -> None:
    """Of every kind of token, at the job's own prices too."""
    usage = Usage(1_000, 2_000, 3_000, 4_000)
    for prices in (BUILT_IN, PriceList(3.0, 15.0)):
        whole_usd = prices.cost_usd("claude-sonnet-5-5", usage)
        assert whole_usd is not None
        assert prices.cost_usd("claude-sonnet-5-5", replace(usage, batch=True)) == pytest.approx(whole_usd / 2)


def test_each_request_of_several_has_its_own_step() -> None:
    """Two prompts below the step do not cost what one above it does; one unknown makes the sum unknown."""
    usage = Usage(60_000, 1_000)
    single_usd = BUILT_IN.cost_usd("claude-haiku-5-5", usage)
    assert single_usd is not None
    assert BUILT_IN.total_usd("claude-haiku-5-5", [usage, usage]) == pytest.approx(2 * single_usd)
    assert BUILT_IN.total_usd("claude-unheard-of", [usage]) is None
    assert BUILT_IN.total_usd("claude-unheard-of", []) == 0


def test_output_does_not_make_a_prompt_long() -> None:
    """Only what goes in counts to the step."""
    assert BUILT_IN.cost_usd("claude-haiku-5-5", Usage(0, MILLION)) == pytest.approx(0.5)


def test_other_models_have_no_step() -> None:
    """A long prompt costs the same per token."""
    assert BUILT_IN.cost_usd("claude-sonnet-5-5", Usage(500_000)) == pytest.approx(1.0)


@pytest.mark.parametrize("model", ["claude-sonnet-5-5", "claude-haiku-5-5", "claude-unheard-of", None])
def test_the_jobs_prices_override_the_table_for_every_model(model: str | None) -> None:
    """Also for an unknown model and a long prompt; cache tokens follow the input price."""
    usage = Usage(MILLION, MILLION, MILLION, MILLION)

    assert PriceList(4.0, 20.0).cost_usd(model, usage) == pytest.approx(4 + 20 + 0.4 + 5)


@pytest.mark.parametrize("prices", [PriceList(input_usd=4.0), PriceList(output_usd=4.0)])
def test_half_a_price_is_none(prices: PriceList) -> None:
    """With one of the two prices the built-in table holds."""
    assert prices.cost_usd("claude-sonnet-5-5", Usage(MILLION)) == pytest.approx(2.0)


@pytest.mark.parametrize("prices", [BUILT_IN, PriceList(4.0, 20.0)])
def test_the_built_in_rules_are_free(prices: PriceList) -> None:
    """They run on this machine: known to be 0, also where the job names prices."""
    assert prices.cost_usd(RULES_MODEL, Usage(MILLION, MILLION, MILLION, MILLION)) == 0.0


def test_a_job_price_of_zero_is_a_price() -> None:
    """A model of one's own may be free; that is known, not unknown."""
    assert PriceList(0.0, 0.0).cost_usd("own", Usage(5, 5)) == 0.0
