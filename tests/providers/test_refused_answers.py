"""An answer that is a refusal is an error, and its tokens are billed all the same."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import ContentFilterError, InvalidResponseError, LLMError
from agentkit.testing import WireServer
from agentkit.types import Response, Usage
from tests.providers.asking import asking, every_way
from tests.providers.contract import ADAPTERS

pytestmark = pytest.mark.wire

USAGE = Usage(70, 3)
PRICE = {"cost_per_1k_input_tokens": 1.0, "cost_per_1k_output_tokens": 10.0}
REFUSED: Response[Any] = Response("", USAGE, finish_reason="content_filter")
EMPTY: Response[Any] = Response("", USAGE, finish_reason="stop")


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("answer", "error"),
    [(REFUSED, ContentFilterError), (EMPTY, InvalidResponseError)],
    ids=["refused", "empty"],
)
@every_way
def test_the_tokens_of_an_answer_that_is_an_error_are_billed(
    name: str, answer: Response[Any], error: type[LLMError], way: str
) -> None:
    with WireServer() as server:
        server.script(answer)
        adapter = ADAPTERS[name].make(server)
        with asking(adapter) as asker:
            asker.llm.register_model("only", adapter, PRICE, replace=True)
            with pytest.raises(error) as caught:
                asker.ask(way)
    assert caught.value.usage == USAGE
    assert caught.value.ledger is not None
    (entry,) = caught.value.ledger.sent
    assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("failure", 70, 3)
    assert entry.cost == pytest.approx(0.1)
    assert not entry.cost_estimated
