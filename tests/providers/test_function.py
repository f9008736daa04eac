"""Models of one's own: a function, or an object with one method."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import Middleware, Response
from agentkit.types import Request
from tests.helpers import manager_of


@pytest.mark.promise("S3-03", "S3-07")
def test_each_attempt_gets_its_own_dict_of_options() -> None:
    seen: list[dict[str, Any]] = []

    def greedy(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append(dict(kwargs))
        kwargs.clear()
        if len(seen) == 1:
            raise ConnectionError
        return "x"

    manager_of(greedy).generate("hi", temperature=0.7, max_tokens=500)
    assert seen == [{"temperature": 0.7, "max_tokens": 500}] * 2


class Echo:
    """All that a provider of one's own needs."""

    provider = "echo"

    def send(self, request: Request) -> Response[Any]:
        return Response(request.text.upper())


@pytest.mark.promise("S2-14")
def test_a_provider_with_one_method_can_be_called_in_every_way() -> None:
    seen: list[str] = []

    class Seen(Middleware):
        def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
            seen.append(response.text)
            return response

    llm = manager_of(Echo(), middleware=[Seen()])

    async def main() -> list[str]:
        client = llm.get_client("echo")
        streamed = "".join([chunk async for chunk in client.stream_chat("a")])
        typed = await client.complete("[1, 2]", response_model=list[int])
        return [streamed, (await client.complete("b")).provider, str(typed)]

    assert asyncio.run(main()) == ["A", "echo", "[1, 2]"]
    assert (llm.generate("c"), "".join(llm.stream("d"))) == ("C", "D")
    assert (seen[0], seen[2:], len(seen)) == ("A", ["B", "C", "D"], 5)
