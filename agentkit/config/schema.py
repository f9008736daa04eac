"""What may stand in a configuration file: its fields, their types, units and defaults.

The JSON Schema in the documentation is made of this, and so is every check of a single value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from agentkit.config.problems import Path, Problem, discreet, looks_like_a_key
from agentkit.config.settings import ProviderSettings, Settings

T = TypeVar("T")

_DEFAULT: Final[dict[str, Any]] = {
    each.name: each.default
    for kind in (Settings, ProviderSettings)
    for each in kind.__dataclass_fields__.values()
}


class _OneOrMany:
    """In the schema of a list: a single value may stand for a list of it."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        listed = handler(core)
        return {"anyOf": [listed["items"], listed]}


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _address(value: str) -> str:
    """An address that a client can use: http or https, with a host, and nothing secret in it."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise _wrong("is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise _wrong("is no address")
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError(
            "address", "a password in it", {"remedy": "put the key into api_keys"}
        )
    if parts.query or parts.fragment:
        raise _wrong("ends in a query or fragment")
    return value.rstrip("/")


def _wrong(what: str) -> PydanticCustomError:
    remedy = "write it as https://host/path"
    return PydanticCustomError("address", "{what}", {"what": what, "remedy": remedy})


def _plain(value: str) -> str:
    """Text that is used as it stands; only keys are looked up elsewhere."""
    if not value.strip():
        raise PydanticCustomError("text", "is empty", {"remedy": "leave it out, or fill it in"})
    if looks_like_a_key(value):
        raise PydanticCustomError("text", "a key", {"remedy": "put it into api_keys"})
    if "${" in value:
        remedy = "write the value itself, or set it by an AGENTKIT_… variable"
        raise PydanticCustomError("text", "placeholders are for api_keys", {"remedy": remedy})
    return value


Text = Annotated[str, AfterValidator(_plain)]
Address = Annotated[str, AfterValidator(_plain), AfterValidator(_address)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Key = Annotated[SecretStr, WithJsonSchema({"type": "string"})]
OneOrMany = Annotated[list[T], BeforeValidator(_listed), Field(min_length=1), _OneOrMany()]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class Limits(_Table):
    """Most requests and tokens a minute, with one key; what is left out has no limit."""

    requests_per_minute: Count | None = None
    """Requests in any 60 seconds."""
    input_tokens_per_minute: Count | None = None
    """Tokens of prompts in any 60 seconds."""
    output_tokens_per_minute: Count | None = None
    """Tokens of answers in any 60 seconds."""
    tokens_per_minute: Count | None = None
    """Tokens of both together in any 60 seconds."""


class Provider(_Table):
    """One provider. Of lists, the first entry belongs to the first key, and so on.

    A list of one entry, or an entry without a list, holds for every key.
    """

    type: Text | None = None
    """Which adapter speaks to it; default: the provider's name, or `compatible` with a base_url."""
    api_keys: OneOrMany[Key] | None = None
    """Keys: as text, as `${VARIABLE}`, as `${VARIABLE:-default}` or as `file:/path`. A single text
    may hold several, separated by commas. Default: the provider's own variables."""
    models: OneOrMany[Text] | None = None
    """The model asked with each key; default: `<PROVIDER>_MODEL`, or the one in the table."""
    rate_limits: OneOrMany[Limits] | None = None
    """The limits of each key; default: none but those that the provider's answers tell."""
    max_concurrency: OneOrMany[Count] = [5]
    """Most calls under way at once, with each key."""
    base_url: Address | None = None
    """Where to send requests; default: the provider's own address."""
    strategy: Literal["round_robin", "least_loaded"] = _DEFAULT["strategy"]
    """How calls are spread over the keys."""
    acquire_timeout: Seconds | None = _DEFAULT["acquire_timeout"]
    """Most seconds a call waits for a key; null: its part of the deadline."""
    idle_timeout: Seconds | None = _DEFAULT["idle_timeout"]
    """Seconds without a call after which a key's connections are made anew; null: never."""
    max_lifetime: Seconds | None = _DEFAULT["max_lifetime"]
    """Seconds after which they are made anew in any case; null: never."""
    timeout: Seconds | None = _DEFAULT["timeout"]
    """Seconds for one attempt; of a stream, between two events; null: its part of the deadline."""
    first_token_timeout: Seconds | None = None
    """Seconds to the first content of a stream; null: as `timeout`."""
    max_tokens: Count | None = None
    """Most tokens of an answer when a call does not say; default: the one in the table."""
    context_window: Count | None = None
    """Tokens that fit into a request and its answer together; null: unknown."""


class File(_Table):
    """A configuration of agentkit."""

    model_config = ConfigDict(title="agentkit configuration")

    providers: Annotated[dict[str, Provider], Field(min_length=1)]
    """The providers, by a name of your choice; the name of an adapter chooses that adapter."""
    default_provider: Text | None = None
    """Who is asked first; default: the first of `providers`."""
    fallback: OneOrMany[Text] | None = None
    """Who is asked after it, in order; default: nobody."""
    deadline: Seconds | None = _DEFAULT["deadline"]
    """Seconds for one request with everything it waits for; null: no limit."""
    max_retries: Count = _DEFAULT["max_retries"]
    """Attempts at one provider in one request, the first included."""
    response_cache: Literal["disk", "memory", "off"] = "off"
    """Where answers are kept, so that an identical request is answered without a call."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file."""
    schema = File.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def check_shape(tree: dict[str, Any]) -> File | list[Problem]:
    """`tree` as a `File`, or everything that is wrong with its values."""
    _fill_blank_providers(tree)
    try:
        return File.model_validate(tree)
    except ValidationError as error:
        return [_problem(each, tree) for each in error.errors(include_url=False)]


def _fill_blank_providers(tree: dict[str, Any]) -> None:
    """``openai:`` with nothing below it means: with all its defaults."""
    providers = tree.get("providers")
    if isinstance(providers, dict):
        tree["providers"] = {
            name: {} if value is None else value for name, value in providers.items()
        }


def _problem(error: Any, tree: dict[str, Any]) -> Problem:
    path: Path = tuple(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path, "unknown key", _suggestion(path))
    if kind == "missing":
        return Problem(path[:-1], f"`{path[-1]}` is missing", "begin with `providers:`")
    value = _at(tree, path)
    if "api_keys" in path:
        return Problem(path, *_about_keys(value))
    shown = discreet(value)
    if "remedy" in context:
        return Problem(path, f"{shown}: {error['msg']}", context["remedy"])
    if kind == "too_short":
        return Problem(path, "is empty", "fill it in, or leave it out")
    return Problem(path, f"{shown}: {_lower(error['msg'])}", _remedy(kind, context))


def _about_keys(value: Any) -> tuple[str, str]:
    if value == []:
        return "is empty", "list at least one key, or leave it out to use the variables"
    return "a key that is no text", "put it into quotes"


def _remedy(kind: str, context: dict[str, Any]) -> str:
    if kind == "literal_error":
        return f"use {context['expected']}"
    if kind in {"greater_than_equal", "greater_than"}:
        return "write a larger number, or leave it out for the default"
    if kind.endswith("_type") and kind.startswith(("int", "float")):
        return "write a number without quotes"
    return "see `agentkit config schema`"


def _suggestion(path: Path) -> str:
    known = list(_fields_at(path[:-1]))
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"possible here: {', '.join(known)}"


def _fields_at(path: Path) -> Iterator[str]:
    if not path:
        yield from File.model_fields
    elif "rate_limits" in path:
        yield from Limits.model_fields
    else:
        yield from Provider.model_fields


def _at(tree: Any, path: Path) -> Any:
    """The value at `path`; an index into what is no list is the value itself."""
    for part in path:
        if isinstance(part, int) and not isinstance(tree, list):
            continue
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            break
    return tree


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
