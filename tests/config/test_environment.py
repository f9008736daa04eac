"""Keys, placeholders and overrides from the environment, which is only read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentkit.config import Settings, load_settings
from agentkit.errors import ConfigurationError
from agentkit.providers.registry import PROVIDERS

SECRET = "sk-live-4f9a7c2e81d35b60"


def secrets(settings: Settings, name: str = "openai") -> list[str | None]:
    return [key.secret for key in settings.providers[name].keys]


def with_key(text: str, **environ: str) -> Settings:
    """One provider whose `api_keys` is `text`."""
    Path("llm.yaml").write_text(f"providers:\n  openai:\n    api_keys: {text}\n", "utf-8")
    return load_settings("llm.yaml", environ)


def test_without_a_file_the_keys_in_the_environment_are_the_configuration() -> None:
    environ = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "GEMINI_API_KEY": "g"}
    settings = load_settings(environ=environ)
    assert list(settings.providers) == ["anthropic", "openai", "google"]
    assert (settings.default_provider, settings.fallback) == ("anthropic", ())
    assert settings.source == "the environment"
    models = {name: each.keys[0].model for name, each in settings.providers.items()}
    assert models == {name: PROVIDERS[name].model for name in models}


@pytest.mark.promise("S2-02")
def test_the_plural_variable_wins_over_the_singular() -> None:
    environ = {"ANTHROPIC_API_KEYS": "k1,k2,k3", "ANTHROPIC_API_KEY": "other"}
    assert secrets(load_settings(environ=environ), "anthropic") == ["k1", "k2", "k3"]


def test_spaces_and_empty_items_of_a_variable_are_ignored() -> None:
    assert secrets(load_settings(environ={"OPENAI_API_KEYS": " k1 ,, k2 ,"})) == ["k1", "k2"]
    assert secrets(load_settings(environ={"OPENAI_API_KEYS": " , ", "OPENAI_API_KEY": "k"})) == [
        "k"
    ]
    with pytest.raises(ConfigurationError, match="no configuration"):
        load_settings(environ={"OPENAI_API_KEYS": "", "OPENAI_API_KEY": "  "})


def test_without_file_and_key_the_error_names_both() -> None:
    with pytest.raises(ConfigurationError, match=r"config/llm\.yaml.*(?s:.*)OPENAI_API_KEY"):
        load_settings(environ={})


@pytest.mark.parametrize("value", [f"{SECRET},{SECRET}", f"{SECRET} {SECRET}", f"{SECRET}\u2028"])
def test_the_error_of_a_key_in_a_variable_names_only_the_variable(value: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEYS") as caught:
        load_settings(environ={"OPENAI_API_KEYS": f"x{value}x,{value}"})
    assert SECRET not in f"{caught.value} {caught.value!r}"


def test_a_variable_names_the_model_unless_the_file_does() -> None:
    environ = {"GROQ_API_KEY": "k", "GROQ_MODEL": "llama-x"}
    assert load_settings(environ=environ).providers["groq"].keys[0].model == "llama-x"
    Path("llm.yaml").write_text("providers: {groq: {models: own}}", "utf-8")
    assert load_settings("llm.yaml", environ).providers["groq"].keys[0].model == "own"


def test_a_provider_without_keys_in_the_file_takes_them_from_its_variables() -> None:
    Path("llm.yaml").write_text("providers:\n  openai:\n", "utf-8")
    assert secrets(load_settings("llm.yaml", {"OPENAI_API_KEYS": "a,b"})) == ["a", "b"]


def test_argument_variable_and_default_path_are_tried_in_this_order() -> None:
    Path("config").mkdir()
    for name in ("argument", "variable", "config/llm"):
        Path(f"{name}.yaml").write_text(f"providers: {{openai: {{api_keys: {name}}}}}", "utf-8")
    environ = {"AGENTKIT_CONFIG": "variable.yaml", "OPENAI_API_KEY": "environment"}
    assert secrets(load_settings("argument.yaml", environ)) == ["argument"]
    assert secrets(load_settings(None, environ)) == ["variable"]
    del environ["AGENTKIT_CONFIG"]
    assert secrets(load_settings(None, environ)) == ["config/llm"]
    Path("config/llm.yaml").unlink()
    assert secrets(load_settings(None, environ)) == ["environment"]


@pytest.mark.promise("S4-18")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${KEY}", ["key-one"]),
        ("['${KEY}', '${OTHER}']", ["key-one", "key-two"]),
        ("${UNSET:-spare}", ["spare"]),
        ("${EMPTY:-spare}", ["spare"]),
        ("pre-${KEY}", ["pre-key-one"]),
        ("${UNSET:-${KEY}}", ["key-one"]),
        ("'${KEY:-${UNSET}}-${OTHER}'", ["key-one-key-two"]),
        ("${UNSET:-pre-${EMPTY:-${OTHER}}}", ["pre-key-two"]),
        ("${SEVERAL}", ["aa-1", "bb-2"]),
        ("xx-1, yy-2", ["xx-1", "yy-2"]),
        ("file:secret.txt", ["from-file"]),
        ("[key-one, file:secret.txt]", ["key-one", "from-file"]),
    ],
)
def test_placeholders_become_keys(text: str, found: list[str]) -> None:
    Path("secret.txt").write_text("from-file\n", "utf-8")
    environ = {"KEY": "key-one", "OTHER": "key-two", "EMPTY": "", "SEVERAL": "aa-1, bb-2,"}
    settings = with_key(text, **environ)
    assert secrets(settings) == found
    assert not any(secret in repr(settings) for secret in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${UNSET}", "llm.yaml:3: providers.openai.api_keys[0]: the variable UNSET is not set"),
        ("${EMPTY}", "the variable EMPTY is empty"),
        ("${COMMAS}", "is empty"),
        ("$UNSET", "write ${UNSET}"),
        ("'${'", "incomplete placeholder"),
        ("'${A:-${B}'", "incomplete placeholder"),
        ("'${not a name}'", "incomplete placeholder"),
        ("'" + "${A:-" * 2000 + "}" * 2000 + "'", "incomplete placeholder"),
        ("${UNSET:-${EMPTY}}", "the variable EMPTY is empty"),
        ("[x, '${BLANKS}']", "api_keys[1]: a key with a space"),
        ("file:absent.txt", "the file absent.txt cannot be read: No such file"),
        ("file:empty.txt", "the file empty.txt is empty"),
        ("file:large.txt", "larger than 65,536 bytes"),
        ("file:binary.txt", "not UTF-8 text"),
    ],
)
def test_the_error_of_a_placeholder_names_its_location(text: str, expected: str) -> None:
    Path("empty.txt").write_text(" \n", "utf-8")
    Path("large.txt").write_text("x" * 100_000, "utf-8")
    Path("binary.txt").write_bytes(b"\xff\xfe\xfa")
    environ = {"EMPTY": "", "COMMAS": " , ", "BLANKS": f"{SECRET} {SECRET}"}
    with pytest.raises(ConfigurationError) as caught:
        with_key(text, **environ)
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_key_file_is_relative_to_the_configuration() -> None:
    Path("deep").mkdir()
    Path("deep/key").write_text("beside", "utf-8")
    Path("deep/llm.yaml").write_text("providers: {openai: {api_keys: 'file:key'}}", "utf-8")
    assert secrets(load_settings("deep/llm.yaml", {})) == ["beside"]


def test_variables_override_single_values_of_a_file() -> None:
    environ = {
        "AGENTKIT_DEADLINE": "60",
        "agentkit_max_retries": "2",
        "AGENTKIT_RESPONSE_CACHE": "memory",
        "AGENTKIT_FALLBACK": "groq, ollama",
        "AGENTKIT_PROVIDERS__OPENAI__TIMEOUT": "7.5",
        "AGENTKIT_PROVIDERS__OPENAI__RATE_LIMITS__REQUESTS_PER_MINUTE": "9",
        "AGENTKIT_PROVIDERS__GROQ__API_KEYS": "a,b",
        "AGENTKIT_PROVIDERS__OLLAMA__MODELS": "llama",
        "AGENTKIT_PROVIDERS__GROQ__MAX_CONCURRENCY": "1,2",
        "AGENTKIT_DEFAULT_PROVIDER": " ",
        "AGENTKIT_CACHE": "memory",
    }
    settings = with_key("k", **environ)
    assert (settings.deadline, settings.max_retries) == (60, 2)
    assert (settings.response_cache, settings.fallback) == ("memory", ("groq", "ollama"))
    openai = settings.providers["openai"]
    assert (openai.timeout, openai.keys[0].limits.requests_per_minute) == (7.5, 9)
    assert secrets(settings, "groq") == ["a", "b"]
    assert [key.max_concurrency for key in settings.providers["groq"].keys] == [1, 2]
    assert settings.providers["groq"].keys[0].origin == "AGENTKIT_PROVIDERS__GROQ__API_KEYS"
    assert [each.name for each in settings.route] == ["openai", "groq", "ollama"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENTKIT_DEADLINE", "soon"),
        ("AGENTKIT_MAX_RETRIES", "0"),
        ("AGENTKIT_DEFAULT_PROVIDER", "unknown"),
        ("AGENTKIT_PROVIDERS__OPENAI__TIMEOT", "3"),
        ("AGENTKIT_PROVIDERS__OPENAI__API_KEYS__X", SECRET),
        ("AGENTKIT_PROVIDERS", "[]"),
        ("AGENTKIT_PROVIDERS__OPNAI__TIMEOUT", "3"),
    ],
)
def test_the_error_of_an_override_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?i){variable}") as caught:
        with_key("k", **{variable: value})
    assert SECRET not in str(caught.value)


def test_providers_that_are_not_a_mapping_are_a_problem_without_a_file_too() -> None:
    with pytest.raises(ConfigurationError, match="AGENTKIT_PROVIDERS"):
        load_settings(environ={"OPENAI_API_KEY": "k", "AGENTKIT_PROVIDERS": "[]"})


@pytest.mark.promise("N5")
def test_no_key_is_ever_written_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEYS", "k1,k2")
    monkeypatch.setenv("FROM_OUTSIDE", SECRET)
    monkeypatch.setenv("AGENTKIT_DEADLINE", "9")
    before = dict(os.environ)
    Path("llm.yaml").write_text(
        "providers: {anthropic: , openai: {api_keys: '${FROM_OUTSIDE}'}}", "utf-8"
    )
    settings = load_settings("llm.yaml")
    assert secrets(settings) == [SECRET]
    assert dict(os.environ) == before
