"""From a manager's settings to its response cache, and what the cache keeps for its callers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit import LLMManager, RetryPolicy
from agentkit.cache.memory import MemoryStore
from agentkit.cache.response import build_response_cache
from agentkit.errors import ConfigurationError
from agentkit.testing import FakeClock, ScriptedModel
from tests.cache.stores import ANSWER, DictStore
from tests.helpers import manager_of


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTKIT_CACHE", raising=False)


def files(directory: Path) -> int:
    return sum(path.is_file() for path in directory.rglob("*"))


def test_disk_keeps_answers_for_a_second_manager(tmp_path: Path) -> None:
    for round_ in range(2):
        cache = build_response_cache("disk", directory=str(tmp_path))
        assert cache is not None
        assert (cache.load("k", True) is None) == (round_ == 0)
        cache.save("k", ANSWER, True)
        cache.close()


def test_memory_writes_no_file(tmp_path: Path) -> None:
    cache = build_response_cache("memory", directory=str(tmp_path))
    assert cache is not None
    cache.save("k", ANSWER, True)
    assert cache.load("k", True) is not None
    assert files(tmp_path) == 0


def test_none_is_off() -> None:
    assert build_response_cache(None) is None


@pytest.mark.parametrize("kind", [DictStore, MemoryStore])
def test_a_store_of_ones_own_works(kind: Any) -> None:
    store = kind()
    cache = build_response_cache(store)
    assert cache is not None
    cache.save("k", ANSWER, True)
    again = build_response_cache(store)
    assert again is not None
    assert again.load("k", True) is not None


@pytest.mark.parametrize("spec", ["disk", "memory", DictStore(), None])
def test_the_environment_can_switch_it_off(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE", "Off")
    assert build_response_cache(spec) is None


@pytest.mark.parametrize("own_store", [True, False])
def test_the_environment_can_keep_it_in_memory(
    own_store: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE", "memory")
    store = DictStore()
    cache = build_response_cache(store if own_store else "disk", directory=tmp_path)
    assert cache is not None
    cache.save("k", ANSWER, True)
    assert cache.load("k", True) is not None
    assert store.entries == {}
    assert files(tmp_path) == 0
    assert build_response_cache(None) is None


def test_an_environment_that_says_nonsense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE", "redis")
    with pytest.raises(ConfigurationError, match="memory or off, got 'redis'"):
        build_response_cache("memory")


class AsyncStore:
    async def get(self, key: str) -> None: ...
    async def set(self, key: str, value: bytes, ttl: float) -> None: ...


@pytest.mark.parametrize(
    "spec", ["Disk", "redis", "", True, False, 7, {}, object(), DictStore, AsyncStore()]
)
def test_a_spec_that_cannot_work_is_named_with_the_remedy(spec: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_response_cache(spec)
    assert caught.value.hint
    named = type(spec).__name__ if isinstance(spec, AsyncStore) else repr(spec)
    assert named in str(caught.value)


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, "60", None, True])
@pytest.mark.parametrize("spec", ["memory", None])
def test_a_time_to_live_that_cannot_work_is_refused_even_when_it_is_off(
    ttl: Any, spec: Any
) -> None:
    with pytest.raises(ConfigurationError, match="cache_ttl"):
        build_response_cache(spec, ttl=ttl)


@pytest.mark.parametrize("namespace", [None, 7, b"x"])
def test_a_namespace_must_be_a_string(namespace: Any) -> None:
    with pytest.raises(ConfigurationError, match="cache_namespace"):
        build_response_cache("memory", namespace=namespace)


def test_the_clock_is_the_callers() -> None:
    clock = FakeClock()
    cache = build_response_cache("memory", ttl=60.0, clock=clock)
    assert cache is not None
    cache.save("k", ANSWER, True)
    clock.advance(59.0)
    assert cache.load("k", True) is not None
    clock.advance(1.0)
    assert cache.load("k", True) is None


def model_of(calls: list[str]) -> Callable[..., str]:
    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        calls.append(prompt)
        return "x"

    return model


def on_disk(directory: Path, model: Callable[..., str]) -> LLMManager:
    llm = LLMManager(cache_dir=str(directory))
    llm.register_model("m", model, {"version": "1"})
    return llm


@pytest.mark.promise("S3-27")
def test_a_second_manager_on_the_same_directory_hits(tmp_path: Path) -> None:
    calls: list[str] = []
    for cached in (False, True):
        with on_disk(tmp_path, model_of(calls)) as llm:
            assert llm.complete("hi").cached is cached
    assert calls == ["hi"]


@pytest.mark.promise("S3-08")
def test_clearing_empties_memory_and_disk(tmp_path: Path) -> None:
    model = model_of([])
    with on_disk(tmp_path, model) as llm, on_disk(tmp_path, model) as other:
        llm.generate("hi")
        llm.clear_cache()
        assert other.complete("hi").cached is False


@pytest.mark.parametrize("kind", ["disk", MemoryStore, DictStore])
def test_clearing_reaches_the_memory_of_the_managers_that_share_the_store(
    kind: Any, tmp_path: Path
) -> None:
    calls: list[str] = []
    store = kind if kind == "disk" else kind()
    managers = []
    for namespace in ("", "", "another"):
        llm = LLMManager(cache=store, cache_dir=str(tmp_path), cache_namespace=namespace)
        llm.register_model("m", model_of(calls), {"version": "1"})
        managers.append(llm)
    for llm in managers:
        llm.generate("hi")
    managers[0].clear_cache()
    assert [llm.complete("hi").cached for llm in managers[1:]] == [False, True]
    for llm in managers:
        llm.close()


@pytest.mark.promise("A12", "S3-28")
def test_bypassing_neither_reads_nor_writes(tmp_path: Path) -> None:
    calls: list[str] = []
    with on_disk(tmp_path, model_of(calls)) as llm:
        llm.generate("hi", use_cache=False)
        assert llm.complete("hi").cached is False
        llm.generate("hi", use_cache=False)
    assert len(calls) == 3


@pytest.mark.promise("A12")
def test_an_answer_of_a_fallback_is_kept_as_its_own() -> None:
    model = ScriptedModel(ConnectionError(), then="primary")
    retry = RetryPolicy(max_attempts=1)
    options: dict[str, Any] = {"enable_caching": True, "cache": "memory", "retry": retry}
    llm = manager_of(model, ScriptedModel("backup"), **options)
    assert [llm.generate("q") for _ in range(2)] == ["backup", "primary"]
    assert llm.complete("q").cached is True


@pytest.mark.promise("S3-29")
def test_disabled_caching_makes_no_directory(tmp_path: Path) -> None:
    llm = manager_of(ScriptedModel("x"), cache_dir=str(tmp_path / "responses"))
    llm.generate("hi")
    assert not (tmp_path / "responses").exists()
