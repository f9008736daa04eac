"""A configuration file becomes settings; every error names its location and remedy."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.config import Settings, load_settings
from agentkit.errors import (
    ConfigurationError,
    LLMConfigurationError,
    MissingDependencyError,
)
from agentkit.policy.limits import RateLimits
from agentkit.providers.registry import MODELS_AS_OF, PROVIDERS, PROVIDERS_BY_KEY

SEED = """\
providers:
  anthropic:
    api_keys:
      - key1
      - key2
      - key3
    models:
      - claude-3-5-haiku-20241022
      - claude-3-5-sonnet-20241022
      - claude-3-opus-20240229
    rate_limits:
      - requests_per_minute: 50
        input_tokens_per_minute: 50000
        output_tokens_per_minute: 10000
"""
SECRET = "sk-live-4f9a7c2e81d35b60"
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load text as a file called ``llm.yaml``, under the variables given."""

    def loaded(text: str | bytes, **environ: str) -> Settings:
        content = text.encode() if isinstance(text, str) else text
        Path("llm.yaml").write_bytes(content)
        return load_settings("llm.yaml", environ)

    return loaded


def provider(body: str) -> str:
    """A file with the one provider ``openai``."""
    return "providers:\n  openai:\n" + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.mark.promise("S4-18")
def test_s4_18_and_21_the_file_of_the_document_loads_as_printed(load: Load) -> None:
    settings = load(SEED)
    (anthropic,) = settings.providers.values()
    assert settings.default_provider == anthropic.name == anthropic.kind == "anthropic"
    assert [key.secret for key in anthropic.keys] == ["key1", "key2", "key3"]
    assert {key.limits for key in anthropic.keys} == {RateLimits(50, 50_000, 10_000)}
    assert {key.max_concurrency for key in anthropic.keys} == {5}


@pytest.mark.promise("S4-19")
def test_s4_19_each_key_has_its_own_model_and_limits(load: Load) -> None:
    lists = """\
api_keys: [a, b]
models: [gpt-one, gpt-two]
rate_limits: [{requests_per_minute: 1}, {tokens_per_minute: 9000}]
max_concurrency: [2, 7]
"""
    first, second = load(provider(lists)).providers["openai"].keys
    assert (first.secret, first.model, first.limits) == ("a", "gpt-one", RateLimits(1))
    assert (second.model, second.limits.tokens_per_minute) == ("gpt-two", 9000)
    assert (first.max_concurrency, second.max_concurrency) == (2, 7)


@pytest.mark.promise("S4-21")
@pytest.mark.parametrize("limits", ["{requests_per_minute: 7}", "[{requests_per_minute: 7}]"])
def test_a_single_item_applies_to_every_key(load: Load, limits: str) -> None:
    keys = load(provider(f"api_keys: [a, b, c]\nmodels: gpt-x\nrate_limits: {limits}")).providers
    assert {(key.model, key.limits) for key in keys["openai"].keys} == {("gpt-x", RateLimits(7))}


@pytest.mark.promise("S4-20")
@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("api_keys: [a, b, c]\nmodels: [x, y]", "3 api_keys, 2 models"),
        ("api_keys: [a]\nmodels: [x, y]", "1 api_keys, 2 models"),
        (
            "api_keys: [a, b]\nrate_limits: [{}, {}, {}]\nmax_concurrency: [1, 2, 3, 4]",
            "2 api_keys, 3 rate_limits, 4 max_concurrency",
        ),
    ],
)
def test_s4_20_lists_of_other_lengths_are_rejected_with_the_counts(
    load: Load, body: str, counts: str
) -> None:
    with pytest.raises(LLMConfigurationError, match=counts) as caught:
        load(provider(body))
    assert "llm.yaml:2: providers.openai" in str(caught.value)


@pytest.mark.promise("S2-11", "S4-18")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (provider("api_key: x"), ["llm.yaml:3", "api_key: unknown key", "mean `api_keys`"]),
        (provider("api_keys: x\nrate_limits: {rpm: 1}"), ["llm.yaml:4", "unknown key", "tokens_"]),
        ("providrs: {}", ["llm.yaml:1", "unknown key", "mean `providers`", "is missing"]),
        ("providers:\n  opnai: {api_keys: x}", ["llm.yaml:2", "opnai", "did you mean `openai`"]),
        (provider("api_keys: x\ntype: antropic"), ["llm.yaml:4", "mean `anthropic`"]),
        (provider("api_keys: a\napi_keys: b"), ["llm.yaml:4", "duplicate key", "line 3"]),
        ("providers:\n\topenai: {}", ["llm.yaml:2", "a tab", "spaces"]),
        ("- openai", ["llm.yaml:1", "a list, not a mapping"]),
        ("openai", ["llm.yaml:1", "not a mapping"]),
        ("", ["llm.yaml:1", "empty"]),
        ("providers: {}", ["llm.yaml:1", "providers", "is empty"]),
        ("providers: [openai]", ["llm.yaml:1", "providers"]),
        ("a: 1\n---\nb: 2", ["llm.yaml:2", "second document"]),
        ("providers: {openai: [}", ["llm.yaml:1", "invalid YAML"]),
        ("providers: !!python/object:os.system x", ["llm.yaml:1", "tag"]),
        ("5: x", ["llm.yaml:1", "key that is not a string"]),
        ("a: \x00", ["llm.yaml:1", "does not allow"]),
        ("a:\n - *missing", ["llm.yaml:2", "undefined alias"]),
        (b"a: ok\nb: \xff", ["llm.yaml:2", "not UTF-8"]),
        (provider("api_keys: x\nrate_limits:\n  requests_per_minute: 0"), ["llm.yaml:5", "0: "]),
        (provider("api_keys: x\nrate_limits: {tokens_per_minute: 0.5}"), ["llm.yaml:4", "0.5"]),
        (provider("api_keys: x\nrate_limits: {tokens_per_minute: true}"), ["llm.yaml:4", "True"]),
        (
            provider("api_keys: x\nmax_tokens: 900\nrate_limits: {output_tokens_per_minute: 100}"),
            ["llm.yaml:5", "100 is below max_tokens (900)"],
        ),
        (provider("api_keys: x\ntimeout: 0"), ["llm.yaml:4", "timeout: 0"]),
        (provider("api_keys: x\ntimeout: soon"), ["llm.yaml:4", "soon", "valid number"]),
        (provider("api_keys: x\nstrategy: random"), ["llm.yaml:4", "round_robin"]),
        (provider("api_keys: x\nmodels: ['']"), ["llm.yaml:4", "is empty"]),
        (provider("api_keys: x\nmodels: '${M}'"), ["llm.yaml:4", "placeholders are for api_keys"]),
        (provider("api_keys: x\nbase_url: api.example.com"), ["llm.yaml:4", "not a valid URL"]),
        (provider("api_keys: x\nbase_url: 'http://h:99999'"), ["llm.yaml:4", "not a valid URL"]),
        (provider("api_keys: x\nbase_url: 'ftp://h'"), ["llm.yaml:4", "not a valid URL"]),
        (provider("api_keys: x\nbase_url: 'http://h/?k=1'"), ["llm.yaml:4", "query"]),
        (provider("api_keys: []"), ["llm.yaml:3", "api_keys: is empty"]),
        (provider("api_keys: ['']"), ["llm.yaml:3", "api_keys[0]: is empty"]),
        (provider("api_keys: [a, ' ']"), ["llm.yaml:3", "api_keys[1]"]),
        (provider("api_keys: [a, b, a]"), ["llm.yaml:3", "keys 1 and 3 are the same"]),
        (provider("api_keys: [a, 5]"), ["llm.yaml:3", "api_keys[1]", "quotes"]),
        (provider("models: gpt-x"), ["llm.yaml:2", "no key", "OPENAI_API_KEY"]),
        ("providers: {ollama: }", ["no model", "OLLAMA_MODEL"]),
        ("providers: {compatible: {models: m}}", ["`base_url` is missing"]),
        (provider("api_keys: x") + "fallback: [groq]", ["llm.yaml:4", "fallback[0]", "`groq`"]),
        (provider("api_keys: x") + "default_provider: opena", ["llm.yaml:4", "mean `openai`"]),
        (provider("api_keys: x") + "max_retries: 0", ["llm.yaml:4", "max_retries: 0"]),
        (provider("api_keys: x") + "deadline: .inf", ["llm.yaml:4", "deadline: .inf"]),
    ],
)
def test_an_error_names_file_line_and_remedy(
    load: Load, text: str | bytes, expected: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    message = str(caught.value)
    for part in [*expected, "hint: "]:
        assert part in message


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {{api_keys: *{SECRET}}}}}",
        f"providers: {{openai: {{api_keys: !{SECRET} x}}}}",
        f"providers: {{openai: {{api_keys: '{SECRET}}}}}",
        f"providers: {{openai: {{api_keys: {{{SECRET}: x}}}}}}",
        f"providers: {{openai: {{{SECRET}: x}}}}",
        f"providers: {{{SECRET}: {{}}}}",
        f"providers: {SECRET}",
        f"{SECRET}",
        f"{SECRET}: x",
        f"api_keys: [{SECRET}\nproviders",
        f"{SECRET}\x00",
        f"{SECRET}".encode() + b"\xff",
        provider(f"api_keys: [{SECRET}, {SECRET}]"),
        provider(f"api_keys: ['{SECRET} x']"),
        provider(f"api_keys: x\nmodels: [[{SECRET}]]"),
        provider(f"api_keys: x\nmodels: {SECRET}"),
        provider(f"api_keys: x\ntype: {SECRET}"),
        provider(f"api_keys: x\ntimeout: {SECRET}"),
        provider(f"api_keys: x\nstrategy: {SECRET}"),
        provider(f"api_keys: x\nbase_url: {SECRET}"),
        provider(f"api_keys: x\nbase_url: 'https://user:{SECRET}@host'"),
        provider(f"api_keys: x\nbase_url: 'https://host?key={SECRET}'"),
        provider("api_keys: x") + f"default_provider: {SECRET}",
        provider("api_keys: x") + f"fallback: [{SECRET}]",
        provider(f"api_keys: ['{SECRET}${{UNSET}}']"),
        provider(f"api_keys: ['${{{SECRET}']"),
    ],
)
def test_no_error_shows_a_key(load: Load, text: str | bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    error: BaseException | None = caught.value
    while error is not None:  # a logger may print the whole chain
        assert SECRET not in f"{error!s} {error!r} {vars(error)}"
        error = error.__context__


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_content_either_loads_or_is_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "llm.yaml"
    file.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    with pytest.raises(ConfigurationError, match=r"llm\.yaml"):
        load_settings(file, {})


def test_a_file_of_10_mb_is_rejected_unread(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"llm\.yaml is larger than 1,000,000 bytes"):
        load(b"# " + b"x" * 10_000_000)


@pytest.mark.parametrize("line", [b"- a\n", b"a: {b: c}\n", b"[a, b], ", b"#\n", b"x "])
def test_a_file_of_almost_1_mb_is_rejected_in_time(load: Load, line: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"llm\.yaml:\d+: "):
        load(line * (999_000 // len(line)))


def test_a_thousand_problems_are_counted_and_the_first_ones_listed(load: Load) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(provider("\n".join(f"wrong{n}: x" for n in range(1000))))
    lines = caught.value.message.splitlines()
    assert (lines[0], lines[-1]) == ("1,000 problems in the configuration", "… and 980 more")


def test_anchors_work_until_they_expand_too_far(load: Load) -> None:
    shared = (
        "providers:\n  openai: {api_keys: a, rate_limits: &own {requests_per_minute: 3}}\n"
        "  groq: {api_keys: b, rate_limits: *own}\n"
    )
    limits = [each.keys[0].limits for each in load(shared).providers.values()]
    assert limits == [RateLimits(3), RateLimits(3)]
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text, expected in [
        (bomb, "more than 10,000 values"),
        ("a: &a [*a]", "nested deeper"),
        ("[" * 50_000, "nested too deeply"),
    ]:
        with pytest.raises(ConfigurationError, match=expected):
            load(text)


def test_no_and_dates_are_strings(load: Load) -> None:
    body = "api_keys: [no]\nmodels: 2024-01-01\n"
    (key,) = load(provider(body)).providers["openai"].keys
    assert (key.secret, key.model) == ("no", "2024-01-01")


def test_one_error_lists_several_problems(load: Load) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(provider("modles: x\ntimeout: -1") + "deadlin: 3")
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("3 problems")
    assert {line.split(": ")[0] for line in lines[1:]} == {
        "llm.yaml:3",
        "llm.yaml:4",
        "llm.yaml:5",
    }


def test_the_error_of_a_missing_file_names_it() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_settings("nowhere.yaml", {})
    with pytest.raises(ConfigurationError, match=r"cannot be read: Is a directory"):
        load_settings(".", {})


def test_an_unknown_provider_with_a_base_url_is_compatible(load: Load) -> None:
    own = load("providers: {mine: {base_url: 'http://host:1/v1/', models: m}}").providers["mine"]
    assert (own.kind, own.base_url, own.keys[0].secret) == ("compatible", "http://host:1/v1", None)


def test_the_table_of_defaults_is_dated_and_complete(load: Load) -> None:
    assert MODELS_AS_OF >= "2026-11-21"
    for kind in PROVIDERS_BY_KEY:
        assert PROVIDERS[kind].model
        assert PROVIDERS[kind].all_key_variables[0].endswith("_API_KEYS")
    small = load(SEED.replace("10000", "100"))
    assert small.providers["anthropic"].max_tokens == 100, "an answer that never fits is refused"
    assert load(SEED).providers["anthropic"].max_tokens == PROVIDERS["anthropic"].max_tokens


def test_the_fingerprint_changes_with_every_value_and_reveals_no_key(load: Load) -> None:
    text = provider(f"api_keys: [{SECRET}]\nmodels: gpt-x")
    first, again = load(text), load(f"# a remark\n{text}")
    assert first == again
    assert first.fingerprint == again.fingerprint == pickle.loads(pickle.dumps(first)).fingerprint
    assert SECRET not in f"{first!r} {first} {first.fingerprint}"
    changed = {
        load(text.replace(old, new)).fingerprint
        for old, new in [(SECRET, "other"), ("gpt-x", "gpt-y"), ("openai", "groq")]
    }
    changed.add(load(f"{text}deadline: 5").fingerprint)
    price = "{cost_per_1k_input_tokens: 1, cost_per_1k_output_tokens: 2}"
    changed.add(load(f"{text}prices: {{gpt-x: {price}}}").fingerprint)
    assert len({first.fingerprint, *changed}) == 6


def test_without_the_extra_the_error_names_the_command_that_installs_it(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    install = r'pip install "agentkit-llms\[config\]"'
    with pytest.raises(MissingDependencyError, match=install):
        load(SEED)
    settings = load_settings(environ={"OPENAI_API_KEY": "k", "AGENTKIT_DEADLINE": "3"})
    assert (settings.default_provider, settings.deadline) == ("openai", 3)
