"""`response_model`: validated answers, repair with the violations, and the response cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from agentkit import ConfigurationError, LLMManager, Message, RetryPolicy, StructuredOutputError
from agentkit.testing import FakeClock
from tests.helpers import Town, manager_of


class Script:
    """A model that gets the messages and answers from a list."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []

    def __call__(self, messages: list[Message], kwargs: dict[str, Any]) -> str:
        self.asked.append(messages)
        return self.answers.pop(0)


GOOD = '{"name": "Paris", "population": 2000000}'


def test_the_answer_is_a_validated_instance_and_the_schema_was_asked_for() -> None:
    model = Script(f"```json\n{GOOD}\n```")
    llm = manager_of(model)
    reply = llm.complete("a city", response_model=Town)
    assert reply.parsed == Town(name="Paris", population=2_000_000)
    assert "population" in model.asked[0][0].text


def test_violations_go_back_to_the_model_by_path_without_a_back_off() -> None:
    model = Script('{"name": "Paris", "population": 0}', GOOD)
    clock = FakeClock()
    llm = manager_of(model, clock=clock)
    reply = llm.complete("a city", response_model=Town)
    assert reply.parsed is not None
    assert "$.population" in model.asked[1][-1].text
    assert clock.sleeps == []
    assert llm.get_model_info("m0")["circuit_breaker_state"] == "closed"


def test_a_model_that_never_learns_ends_in_an_error_that_names_each_path() -> None:
    llm = manager_of(Script(*["{}"] * 3))
    with pytest.raises(StructuredOutputError) as caught:
        llm.complete("a city", response_model=Town)
    assert {each.split(":")[0] for each in caught.value.violations} == {"$.name", "$.population"}
    assert caught.value.raw == "{}"
    assert llm.get_model_info("m0")["circuit_breaker_state"] == "closed"


def test_the_next_model_may_do_better() -> None:
    llm = manager_of(Script("no", "no"), Script(GOOD), retry=RetryPolicy(max_attempts=2))
    reply = asyncio.run(llm.acomplete("a city", response_model=Town))
    assert (reply.model, len(reply.ledger.sent)) == ("m1", 3)


def test_a_rejected_answer_is_not_stored_and_a_stored_one_is_validated_again() -> None:
    model = Script("no", GOOD)
    llm = manager_of(model, cache="memory", enable_caching=True)
    replies = [llm.complete("a city", response_model=Town) for _ in range(2)]
    assert [reply.cached for reply in replies] == [False, True]
    assert replies[0].parsed == replies[1].parsed == Town(name="Paris", population=2_000_000)
    assert len(model.asked) == 2


class Lax(BaseModel):
    name: str


class Strict(BaseModel):
    """Has the same schema; only its validator differs."""

    model_config = ConfigDict(
        title="Lax", json_schema_extra=lambda schema: schema.pop("description")
    )
    name: str

    @field_validator("name")
    @classmethod
    def begins_well(cls, name: str) -> str:
        if not name[0].isupper():
            raise ValueError("begins with a small letter")
        return name


Strict.__name__ = "Lax"


class LateStore:
    """Finds nothing at the first look, as if the answer were stored right after it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.looks = 0

    def get(self, key: str) -> bytes | None:
        self.looks += 1
        return self.kept.get(key) if self.looks % 2 == 0 else None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.kept[key] = value


def test_an_answer_stored_meanwhile_that_fails_the_check_counts_as_absent() -> None:
    model = Script('{"name": "paris"}', '{"name": "Paris"}')
    llm = manager_of(model, cache=LateStore(), enable_caching=True)
    assert llm.complete("a city", response_model=Lax).parsed == Lax(name="paris")
    reply = llm.complete("a city", response_model=Strict)
    assert (reply.parsed, reply.cached) == (Strict(name="Paris"), False)
    assert (reply.ledger.cache, reply.ledger.answered_by) == ("miss", "m0")
    assert len(model.asked) == 2


def at_once(first: type[BaseModel], second: type[BaseModel]) -> tuple[list[Any], int]:
    """Two identical questions in flight, the second one beside the first."""
    prompts: list[str] = []

    async def model(prompt: str, kwargs: dict[str, Any]) -> str:
        prompts.append(prompt)
        await asyncio.sleep(0)
        return '{"name": "paris"}' if len(prompts) == 1 else '{"name": "Paris"}'

    async def main() -> list[Any]:
        llm = LLMManager(cache="memory")
        llm.register_model("m", model)
        async with llm:
            asked = (llm.acomplete("a city", response_model=each) for each in (first, second))
            return list(await asyncio.gather(*asked))

    return asyncio.run(main()), len(prompts)


def test_callers_of_a_shared_call_get_an_instance_each() -> None:
    (mine, yours), calls = at_once(Lax, Lax)
    assert mine.parsed == yours.parsed == Lax(name="paris")
    assert mine.parsed is not yours.parsed
    assert (yours.ledger.cache, calls) == ("shared", 1)


def test_a_shared_answer_that_fails_the_callers_own_check_is_asked_for_again() -> None:
    (lax, strict), calls = at_once(Lax, Strict)
    assert (type(lax.parsed), type(strict.parsed)) == (Lax, Strict)
    assert (lax.text, strict.text) == ('{"name": "paris"}', '{"name": "Paris"}')
    assert (strict.ledger.cache, calls) == ("miss", 2)


def test_builtin_types_will_do_and_a_type_without_a_schema_is_refused() -> None:
    llm = manager_of(Script("[1, 2]"))
    assert llm.complete("numbers", response_model=list[int]).parsed == [1, 2]
    with pytest.raises(ConfigurationError, match="JSON schema"):
        llm.complete("x", response_model=threading_lock())


def threading_lock() -> Any:
    import threading

    return type(threading.Lock())
