"""What tokens cost, with a rate for each kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ConfigurationError, Usage
from agentkit.policy.price import Price, price_list, price_of

FULL = {
    "cost_per_1k_input_tokens": 3.0,
    "cost_per_1k_output_tokens": 15.0,
    "cost_per_1k_cache_read_tokens": 0.3,
    "cost_per_1k_cache_write_tokens": 3.75,
}


def test_each_kind_of_token_has_its_rate() -> None:
    price = price_of(FULL)
    assert price == Price(3.0, 15.0, 0.3, 3.75)
    usage = Usage(10_000, 200, cache_read_tokens=8_000, cache_write_tokens=1_000)
    assert price.of(usage) == pytest.approx(1_000 * 0.003 + 8_000 * 0.0003 + 3.75 + 200 * 0.015)
    assert price.knows(usage)


def test_a_missing_rate_of_the_cache_is_that_of_the_input_and_not_known() -> None:
    price = Price(3.0, 15.0)
    cached = Usage(1_000, 0, cache_read_tokens=500)
    assert price.of(cached) == pytest.approx(3.0)
    assert not price.knows(cached)
    assert not Price(3.0, 15.0, cache_read=0.3).knows(Usage(1_000, cache_write_tokens=1))
    assert price.knows(Usage(1_000, 10, reasoning_tokens=5))


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_a_price_is_never_negative_and_a_cache_read_never_dearer(
    fresh: int, read: int, written: int, output: int
) -> None:
    usage = Usage(fresh + read + written, output, read, written)
    cheap = Price(3.0, 15.0, cache_read=0.3, cache_write=3.0).of(usage)
    assert 0.0 <= cheap <= Price(3.0, 15.0).of(usage) + 1e-6
    assert Price(1.0, 1.0, 1.0, 1.0).of(usage) == pytest.approx(usage.total_tokens / 1000)


def test_more_cached_tokens_than_input_are_not_a_refund() -> None:
    assert Price(3.0, 15.0, 0.3).of(Usage(10, 0, cache_read_tokens=1_000)) > 0.0


@pytest.mark.parametrize(
    "metadata", [{}, {"cost_per_1k_input_tokens": 1.0}, {"cost_per_1k_tokens": "0.03"}]
)
def test_half_a_price_is_none(metadata: dict[str, object]) -> None:
    assert price_of(metadata) is None


def test_one_rate_for_both() -> None:
    assert price_of({"cost_per_1k_tokens": 0.5}) == Price(0.5, 0.5)


@pytest.mark.parametrize("name", [*FULL])
def test_a_negative_rate_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        price_of({**FULL, name: -1.0})


def test_a_list_of_prices_takes_prices_and_their_fields() -> None:
    prices = price_list({"a": FULL, "b": Price(1.0, 2.0)})
    assert prices == {"a": Price(3.0, 15.0, 0.3, 3.75), "b": Price(1.0, 2.0)}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"cost_per_1k_input_tokens": 1.0}, "rates for input and output"),
        ({**FULL, "cost_per_1k_cached_tokens": 1.0}, "unknown key 'cost_per_1k_cached_tokens'"),
        (0.5, "rates for input and output"),
        (Price(-1.0, 1.0), "input"),
    ],
)
def test_a_list_of_prices_with_a_mistake_is_refused(wrong: object, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        price_list({"a": wrong})
