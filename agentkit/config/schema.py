"""The fields of a configuration: as a file contains them, and as `Settings`.

The JSON Schema in the documentation is generated from this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from agentkit.config.problems import looks_like_key
from agentkit.policy.limits import OnLoss, PoolConfig, RateLimits, Strategy, key_fingerprint
from agentkit.policy.period import Period
from agentkit.policy.price import Price
from agentkit.providers.requirements import TransportName
from agentkit.providers.transport.options import ConnectionOptions

T = TypeVar("T")

_POOL: Final = PoolConfig()
_CONNECTIONS: Final = ConnectionOptions()
_DEADLINE: Final = 300.0
_MAX_RETRIES: Final = 3
_MAX_CONCURRENCY: Final = 5


class _OneOrMany:
    """In the JSON Schema of a list: a single value is allowed in place of a list of one."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _check_url(value: str) -> str:
    """An http or https URL with a host and without credentials, query or fragment."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise _url_error("not a valid URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise _url_error("not a valid URL")
    if parts.username is not None or parts.password is not None:
        raise _url_error("contains a password", "put the key into api_keys")
    if parts.query or parts.fragment:
        raise _url_error("has a query or fragment")
    return value.rstrip("/")


def _url_error(problem: str, remedy: str = "write it as https://host/path") -> PydanticCustomError:
    return PydanticCustomError("url", "{problem}", {"problem": problem, "remedy": remedy})


def _check_text(value: str) -> str:
    """A string that is used as it is: only `api_keys` may refer to variables and files."""
    if not value.strip():
        raise PydanticCustomError("text", "is empty", {"remedy": "leave it out, or fill it in"})
    if looks_like_key(value):
        raise PydanticCustomError(
            "text", "looks like an API key", {"remedy": "put it into api_keys"}
        )
    if "${" in value:
        remedy = "write the value itself, or set it by an AGENTKIT_… variable"
        raise PydanticCustomError("text", "placeholders are for api_keys", {"remedy": remedy})
    return value


def _check_expandable(value: str) -> str:
    """A string that may refer to variables."""
    return value if "${" in value else _check_text(value)


Text = Annotated[str, AfterValidator(_check_text)]
Expandable = Annotated[str, AfterValidator(_check_expandable)]
Url = Annotated[str, AfterValidator(_check_text), AfterValidator(_check_url)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ApiKey = Annotated[SecretStr, WithJsonSchema({"type": "string"})]
OneOrMany = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1), _OneOrMany()]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,  # the input may be a key
        use_attribute_docstrings=True,
    )


class Limits(_Model):
    """The most requests and tokens per minute with one key. What is left out has no limit."""

    requests_per_minute: Count | None = None
    """Requests in any 60 seconds."""
    input_tokens_per_minute: Count | None = None
    """Prompt tokens in any 60 seconds."""
    output_tokens_per_minute: Count | None = None
    """Answer tokens in any 60 seconds."""
    tokens_per_minute: Count | None = None
    """Prompt and answer tokens together in any 60 seconds."""


class Prices(_Model):
    """What a model costs, in US dollars for 1,000 tokens."""

    cost_per_1k_input_tokens: Rate
    """Input that a prompt cache had no part in."""
    cost_per_1k_output_tokens: Rate
    """Output, reasoning included."""
    cost_per_1k_cache_read_tokens: Rate | None = None
    """Input that the provider read from a prompt cache; null: unknown, estimated as other input."""
    cost_per_1k_cache_write_tokens: Rate | None = None
    """Input that the provider wrote to a prompt cache; null: unknown, estimated as other input."""


class Spending(_Model):
    """The most that all requests together may spend; at least one of `usd` and `tokens`."""

    usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """US dollars. Each model needs a price."""
    tokens: Count | None = None
    """Tokens, input and output together."""
    per: Period | None = None
    """The period, in UTC, after which spending starts again from zero; null: never."""
    scope: Annotated[str, AfterValidator(_check_text)] = "default"
    """A name: budgets with the same name in a process, and in all processes of a fleet, are spent
    together."""
    on_loss: OnLoss = "share"
    """What each process may spend while the server of a fleet is lost: an equal `share` of what was
    left, nothing (`stop`), or the entire limit, as if it were alone (`open`)."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None:
            raise PydanticCustomError(
                "budget", "has no limit", {"remedy": "set usd or tokens, or leave it out"}
            )
        return self


class Connections(_Model):
    """How the native transport opens and keeps connections."""

    connect_timeout: Seconds = _CONNECTIONS.connect_timeout
    """Seconds for each step of a new connection: finding the host's address, connecting, the tunnel
    of a proxy, and the TLS handshake."""
    keepalive_expiry: Seconds = _CONNECTIONS.keepalive_expiry
    """Seconds after which an idle connection is not used again."""
    max_keepalive_connections: Annotated[int, Field(ge=0)] = _CONNECTIONS.max_keepalive_connections
    """Idle connections that are kept for each key; 0: each request has a connection of its own."""
    ca_bundle: Text | None = None
    """A file with the trusted certificates (PEM), or a folder prepared by `openssl rehash`.
    Default: the certificates of the variables `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else of
    certifi."""


class ProviderOptions(_Model):
    """The options of a provider that a file and `ProviderSettings` share."""

    transport: TransportName | None = None
    """How requests are sent: `sdk`, through the vendor's SDK, or `native`, through agentkit's own
    HTTP client. Default: the `transport` of the file."""
    connections: Connections | None = None
    """How the native transport opens and keeps connections. Default: the `connections` of the
    file."""

    base_url: Url | None = None
    """Where requests are sent. Default: the provider's own URL."""
    strategy: Strategy = "round_robin"
    """How calls are distributed over the keys."""
    acquire_timeout: Seconds | None = _POOL.acquire_timeout
    """The most seconds a call waits for a free key; null: until its share of the deadline ends."""
    idle_timeout: Seconds | None = _POOL.idle_timeout
    """Seconds without a call after which a key's connections are replaced; null: never."""
    max_lifetime: Seconds | None = _POOL.max_lifetime
    """Seconds after which a key's connections are replaced in any case; null: never."""
    timeout: Seconds | None = 120.0
    """Seconds for one attempt or, in a stream, between two events; null: until its share of the
    deadline ends."""
    first_token_timeout: Seconds | None = None
    """Seconds until the first content of a stream; null: the same as `timeout`."""
    max_tokens: Count | None = None
    """The most tokens of an answer, for calls that do not set it. Default: the provider's, or
    agentkit's where its API requires a limit."""
    context_window: Count | None = None
    """The most tokens that a request and its answer may have together; null: unknown."""
    params: dict[str, Any] | None = None
    """Parameters of every request. They replace the caller's; null removes the caller's."""


class Provider(ProviderOptions):
    """One provider in a file. In lists, the first item belongs to the first key, and so on.

    A single item, in a list or not, applies to every key.
    """

    type: Text | None = None
    """The adapter. Default: the provider's name, or `compatible` if there is a `base_url`."""
    api_keys: OneOrMany[ApiKey] | None = None
    """Keys: the key itself, `${VARIABLE}`, `${VARIABLE:-default}` or `file:/path`. A single string
    may contain several, separated by commas. Default: the provider's own variables."""
    models: OneOrMany[Text] | None = None
    """The model for each key. Default: the variable `<PROVIDER>_MODEL`, or agentkit's
    default for the provider."""
    rate_limits: OneOrMany[Limits] | None = None
    """The limits of each key. Default: only those that the provider reports in its responses."""
    max_concurrency: OneOrMany[Count] = [_MAX_CONCURRENCY]
    """The most concurrent calls with each key."""


class File(_Model):
    """A configuration file of agentkit."""

    model_config = ConfigDict(title="agentkit configuration")

    providers: Annotated[dict[str, Provider], Field(min_length=1)]
    """The providers, by a name of your choice. The name of an adapter selects that adapter."""
    default_provider: Text | None = None
    """The provider that is tried first. Default: the first of `providers`."""
    fallback: OneOrMany[Text] | None = None
    """The providers that are tried after the default provider, in order. Default: none."""
    deadline: Seconds | None = _DEADLINE
    """Seconds for one request, including retries, waits and fallbacks; null: no limit."""
    max_retries: Count = _MAX_RETRIES
    """Attempts at each provider in one request, including the first."""
    response_cache: Literal["disk", "memory", "off"] = "off"
    """Where responses are cached, so that an identical request needs no call."""
    fleet: Expandable | None = None
    """The URL of the Valkey or Redis server through which processes share calls, responses, limits
    and budgets, such as `valkey://host:6379/0`, or `off`. Only responses that `response_cache`
    keeps are shared. `${VARIABLE}` and `${VARIABLE:-default}` are replaced, so that a password
    stays in the environment. Default: the variable `AGENTKIT_FLEET`, or else off."""
    budget: Spending | None = None
    """A limit on what all requests together may spend. Default: no limit."""
    on_fleet_loss: Literal["share", "stop", "open"] = "share"
    """What each process may take of the shared rate limits while that server is lost: an equal
    `share` of what was left, nothing (`stop`: the next provider is tried), or all (`open`)."""
    transport: TransportName | None = None
    """How requests are sent to providers that set no `transport`. Default: `sdk`."""
    connections: Connections | None = None
    """How the native transport opens and keeps connections to providers that set none."""
    prices: dict[str, Prices] = Field(default_factory=dict)
    """What models cost, by the provider's own names. Default: unknown."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file."""
    schema = File.model_json_schema()
    provider = schema["$defs"]["Provider"]
    provider["properties"] = {  # its own fields before the inherited ones
        name: provider["properties"][name]
        for name in sorted(provider["properties"], key=lambda name: name in _OPTIONS)
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


_OPTIONS: Final = frozenset(ProviderOptions.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """One key of a provider, with its model and limits.

    Attributes:
        secret: the key itself, hidden from every repr; None if the provider needs no key.
        model: the model that is called with this key.
        limits: the most requests and tokens per minute with this key.
        max_concurrency: the most concurrent calls with this key (default 5).
        origin: where the key comes from: a file and line, or a variable.
    """

    secret: str | None = field(repr=False)
    model: str
    limits: RateLimits = field(default_factory=RateLimits)
    max_concurrency: int = _MAX_CONCURRENCY
    origin: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """See `key_fingerprint`."""
        return key_fingerprint(self.secret)


class ProviderSettings(ProviderOptions):
    """One provider with its keys. What is ``null`` in a file is None here."""

    name: str
    """Its name in this configuration."""
    kind: str
    """The adapter (``openai``, ``anthropic`` …)."""
    keys: tuple[KeySettings, ...]
    """At least one; its `secret` is None if the provider needs no key."""

    @property
    def fingerprint(self) -> str:
        """Changes when anything of this provider changes, including a key; see `Settings`."""
        return _digest(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A complete configuration.

    Attributes:
        providers: by name, in the order of the file.
        default_provider: the name of the provider that is tried first.
        fallback: the names of those that are tried after it, in order, without duplicates.
        deadline: seconds for one request, including retries, waits and fallbacks (default 300.0;
            None: no limit).
        max_retries: attempts at each provider in one request, including the first (default 3).
        response_cache: where responses are cached; None (default): nowhere.
        fleet: the URL of the store of the fleet, hidden from every repr as it may contain a
            password; ``"off"``, or None (default): ``AGENTKIT_FLEET``.
        budget: what all requests together may spend; None (default): no limit.
        on_fleet_loss: what holds for rate limits while that store is lost (default ``"share"``).
        prices: what models cost, by the provider's own names.
        source: the file it was read from, or ``the environment``.
    """

    providers: dict[str, ProviderSettings]
    default_provider: str
    fallback: tuple[str, ...] = ()
    deadline: float | None = _DEADLINE
    max_retries: int = _MAX_RETRIES
    response_cache: Literal["disk", "memory"] | None = None
    fleet: str | None = field(default=None, repr=False)
    budget: Spending | None = None
    on_fleet_loss: Literal["share", "stop", "open"] = "share"
    prices: Mapping[str, Price] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """The same for equal settings in every process, and different when anything changes.

        The start of a SHA-256 over all values in which each key is replaced by its own SHA-256, so
        it is safe to log and compare.
        """
        return _digest(self)

    @property
    def route(self) -> tuple[ProviderSettings, ...]:
        """The providers that a request may try, in order."""
        return tuple(self.providers[name] for name in (self.default_provider, *self.fallback))


def _digest(value: Any) -> str:
    text = json.dumps(_plain(value), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """`value` as JSON, with keys hashed and without the fields that equality ignores."""
    if isinstance(value, Mapping):
        return [[name, _plain(each)] for name, each in value.items()]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, BaseModel):
        return [[name, _plain(each)] for name, each in value]
    if isinstance(value, KeySettings):
        secret = None if value.secret is None else hashlib.sha256(value.secret.encode()).hexdigest()
        return [secret, value.model, _plain(value.limits), value.max_concurrency]
    if isinstance(value, Settings):
        hidden = None if value.fleet is None else hashlib.sha256(value.fleet.encode()).hexdigest()
        return [hidden, *_fields_of(value, "fleet")]
    if isinstance(value, RateLimits):
        return _fields_of(value)
    return value


def _fields_of(value: Settings | RateLimits, *without: str) -> list[Any]:
    names = [each.name for each in fields(value) if each.compare and each.name not in without]
    return [_plain(getattr(value, name)) for name in names]
