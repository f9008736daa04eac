"""`check`: the worst case of a configuration, and its risks."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import LLMManager
from agentkit.config import KeySettings, ProviderSettings, Settings, load_settings
from agentkit.config.check import Finding, check, worst_case
from agentkit.errors import LLMError, OverloadedError
from agentkit.testing import FakeClock

SECRET = "sk-live-4f9a7c2e81d35b60"


def one(name: str = "openai", secret: str = "", model: str = "m", **rest: Any) -> ProviderSettings:
    """A provider with one key; `compatible`, so that no list of models knows better."""
    rest = {"kind": "compatible", "timeout": 10.0, **rest}
    return ProviderSettings(
        name=name, keys=(KeySettings(secret=secret or name, model=model),), **rest
    )


def several(*providers: ProviderSettings, **rest: Any) -> Settings:
    """A route over all `providers`, in order."""
    names = [each.name for each in providers]
    rest.setdefault("fallback", tuple(names[1:]))
    by_name = dict(zip(names, providers, strict=True))
    return Settings(providers=by_name, default_provider=names[0], **rest)


def findings(settings: Settings, level: str, **environ: str) -> list[Finding]:
    return [each for each in check(settings, environ).findings if each.level == level]


def test_the_worst_case_adds_attempts_waits_and_queues_along_the_route() -> None:
    settings = several(
        one("a", timeout=10.0, acquire_timeout=1.0),
        one("b", timeout=20.0, acquire_timeout=2.0),
        deadline=None,
        max_retries=2,
    )
    worst = worst_case(settings)
    longest_wait = 6.25  # a Retry-After of 5 s that is heeded, and its jitter upwards
    assert [bound.seconds for bound in worst.route] == [
        2 * 11 + longest_wait,
        2 * 22 + longest_wait,
    ]
    assert (worst.calls, worst.seconds) == (4, 2 * 11 + 2 * 22 + 2 * longest_wait)
    assert worst.limited_by == "attempts"


@pytest.mark.parametrize(
    ("deadline", "timeout", "seconds", "limited_by"),
    [
        (30.0, 100.0, 30.0, "deadline"),
        (30.0, None, 30.0, "deadline"),
        (None, None, None, "nothing"),
        (500.0, 10.0, 20.0, "attempts"),
    ],
)
def test_a_deadline_ends_what_attempts_do_not(
    deadline: float | None, timeout: float | None, seconds: float | None, limited_by: str
) -> None:
    worst = worst_case(several(one(timeout=timeout), deadline=deadline, max_retries=1))
    assert (worst.seconds, worst.limited_by) == (seconds, limited_by)


@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.none() | st.floats(0.5, 80.0),
    st.none() | st.floats(0.0, 6.0),
    st.integers(0),
)
def test_no_request_exceeds_the_worst_case(
    attempts: int, models: int, deadline: float | None, retry_after: float | None, seed: int
) -> None:
    """A manager with the same numbers, and models that fail at the very end of their timeout."""
    timeout, clock, sent = 9.0, FakeClock(), 0

    def slow(prompt: str, options: dict[str, Any]) -> str:
        nonlocal sent
        sent += 1
        left = timeout if deadline is None else deadline - clock.elapsed
        clock.advance(max(min(timeout, left), 0.0))
        raise OverloadedError("busy", retry_after=retry_after)

    providers = [one(f"m{n}", timeout=timeout, acquire_timeout=1.0) for n in range(models)]
    worst = worst_case(several(*providers, deadline=deadline, max_retries=attempts))
    manager = LLMManager(
        attempts, cache=None, deadline=deadline, clock=clock, rng=random.Random(seed).random
    )
    for provider in providers:
        manager.register_model(provider.name, slow, breaker=False)
    manager.set_fallback_chain([provider.name for provider in providers])
    with manager, pytest.raises(LLMError):
        manager.generate("?")
    assert worst.seconds is not None
    assert 0 < sent <= worst.calls
    assert clock.elapsed <= worst.seconds + 1e-6


def test_an_order_in_which_all_fails_late_reaches_the_most_calls() -> None:
    settings = several(one("a"), one("b"), deadline=None, max_retries=3)
    with LLMManager(cache=None, clock=FakeClock()) as manager:
        calls = 0

        def down(prompt: str, options: dict[str, Any]) -> str:
            nonlocal calls
            calls += 1
            raise OverloadedError("busy")

        for provider in settings.route:
            manager.register_model(provider.name, down, breaker=False)
        manager.set_fallback_chain(["a", "b"])
        with pytest.raises(LLMError):
            manager.generate("?")
    assert calls == worst_case(settings).calls == 6


def test_a_request_that_nothing_ends_is_warned_about() -> None:
    (finding,) = findings(several(one(timeout=None), deadline=None), "warning")
    assert "nothing ends a request" in finding.text
    assert findings(several(one(timeout=None), deadline=5.0), "warning") == []


def test_a_fallback_that_may_get_no_time_is_warned_about() -> None:
    slow = one("slow", timeout=300.0)
    (finding,) = findings(several(slow, one("next"), deadline=300.0), "warning")
    assert finding.where == "providers.next"
    assert findings(several(slow, one("next"), deadline=301.0), "warning") == []


def test_a_timeout_beyond_the_deadline_is_warned_about() -> None:
    (finding,) = findings(several(one(timeout=31.0), deadline=30.0), "warning")
    assert finding.where == "providers.openai.timeout"


def test_a_fallback_with_a_smaller_context_is_warned_about() -> None:
    route = [one("a", context_window=200), one("b", context_window=100), one("c")]
    (finding,) = findings(several(*route, one("d", context_window=200)), "warning")
    assert (finding.where, "100 of 200" in finding.text) == ("providers.b.context_window", True)


def test_models_that_share_a_key_are_warned_about() -> None:
    settings = several(one("a", SECRET, "x"), one("b", SECRET, "y"), one("c", "other", "z"))
    (finding,) = findings(settings, "warning")
    assert "a (x) and b (y) share" in finding.text
    assert settings.providers["a"].keys[0].fingerprint in finding.text
    assert SECRET not in json.dumps(check(settings, {}).as_json())


def test_local_models_without_a_key_share_nothing() -> None:
    keyless = KeySettings(secret=None, model="m")
    both = [ProviderSettings(name=name, kind="ollama", keys=(keyless,)) for name in "ab"]
    assert findings(several(*both), "warning") == []


def test_a_model_of_another_provider_is_warned_about() -> None:
    (finding,) = findings(several(one(kind="openai", model="claude-sonnet-5-5")), "warning")
    assert "is a model name of anthropic" in finding.text
    behind = one(kind="openai", model="claude-sonnet-5-5", base_url="http://gateway")
    assert findings(several(behind), "warning") == []


def test_a_model_that_no_sdk_lists_is_noted_with_a_close_name() -> None:
    (slip,) = findings(several(one(kind="anthropic", model="claude-sonet-5-5")), "note")
    assert slip.remedy == "did you mean claude-sonnet-5-5?"
    (new,) = findings(several(one(kind="openai", model="gpt-99-nova-experimental")), "note")
    assert "see the provider's list" in new.remedy
    assert findings(several(one(kind="groq", model="anything")), "note") == []


def test_a_provider_that_is_never_reached_is_noted() -> None:
    (finding,) = findings(several(one("a"), one("b"), fallback=()), "note")
    assert finding.where == "providers.b"


def test_a_variable_that_nothing_reads_is_noted_with_a_close_name() -> None:
    found = findings(
        several(one()),
        "note",
        AGENTKIT_DEADLIN="1",
        AGENTKIT_CACHE="off",
        AGENTKIT_DEADLINE="2",
        AGENTKIT_PROVIDERS__A__TIMEOUT="3",
        HOME="/",
    )
    assert [(each.where, each.remedy) for each in found] == [
        ("AGENTKIT_DEADLIN", "did you mean AGENTKIT_DEADLINE?")
    ]


@pytest.mark.skipif(os.name != "posix", reason="permissions as on POSIX")
def test_keys_in_a_file_that_others_may_read_are_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(f"providers: {{groq: {{api_keys: {SECRET}}}}}", "utf-8")
    file.chmod(0o644)
    (finding,) = findings(load_settings(file, {}), "warning")
    assert finding.where == f"{file}:1"
    assert SECRET not in f"{finding}"
    file.chmod(0o600)
    assert findings(load_settings(file, {}), "warning") == []
    assert len(findings(load_settings(file, {}), "note")) == 1
    file.write_text("providers: {groq: {api_keys: '${KEY}'}}", "utf-8")
    assert check(load_settings(file, {"KEY": SECRET}), {}).findings == ()
