"""The vendors' own descriptions of the bodies that their APIs take, made strict."""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

import typing_extensions
from pydantic import ConfigDict, TypeAdapter

SDK_OPTIONS = ("extra_body", "extra_headers", "extra_query", "timeout")
"""Arguments of the SDKs' methods that are not part of the body."""


_SAMPLING = ("temperature", "top_p", "top_k")


def check_body(provider: str, body: Mapping[str, Any]) -> None:
    """Raise if the provider's own schema does not allow `body`.

    The schema of Anthropic's SDK is that of the API's newest version, so that sampling parameters
    are allowed only together with the header that asks for the version before.
    """
    left_out: tuple[str, ...] = SDK_OPTIONS
    if dict(body.get("extra_headers", {})).get("anthropic-version") == "2023-06-01":
        left_out = (*SDK_OPTIONS, *_SAMPLING)
    _CHECKS[provider]({name: body[name] for name in body if name not in left_out})


_TYPES = {
    "anthropic": "anthropic.types.message_create_params:MessageCreateParams",
    "groq": "groq.types.chat.completion_create_params:CompletionCreateParams",
    "openai": "openai.types.chat.completion_create_params:CompletionCreateParams",
    "compatible": "openai.types.chat.completion_create_params:CompletionCreateParams",
    "openai-responses": "openai.types.responses.response_create_params:ResponseCreateParams",
}


@functools.cache
def _adapter(provider: str) -> TypeAdapter[Any]:
    return TypeAdapter(_Strict().of(resolve_name(_TYPES[provider])))


def _check_typed(provider: str, body: Mapping[str, Any]) -> None:
    _adapter(provider).validate_python(dict(body), strict=True)


@functools.cache
def _google_adapters() -> Mapping[str, TypeAdapter[Any]]:
    from google.genai import types as google

    fields = {
        "contents": list[google.Content],
        "systemInstruction": google.Content,
        "tools": list[google.Tool],
        "toolConfig": google.ToolConfig,
        "generationConfig": google.GenerationConfig,
        "safetySettings": list[google.SafetySetting],
        "cachedContent": str,
        "serviceTier": google.ServiceTier,
        "store": bool,
    }
    return {name: TypeAdapter(kind) for name, kind in fields.items()}


def _check_google(body: Mapping[str, Any]) -> None:
    """The SDK's models forbid unknown fields."""
    for name, value in body.items():
        _google_adapters()[name].validate_python(value)


@functools.cache
def _bedrock_shape() -> Any:
    import botocore.session

    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    return service.operation_model("Converse").input_shape


def _check_bedrock(arguments: Mapping[str, Any]) -> None:
    """The model that botocore itself has of Bedrock's Converse."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate({"modelId": "some-model", **arguments}, _bedrock_shape())
    assert not report.has_errors(), report.generate_report()


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    **{name: functools.partial(_check_typed, name) for name in _TYPES},
    "google": _check_google,
    "bedrock": _check_bedrock,
}


class _Strict:
    """The types of an SDK's parameters, with typed dicts that forbid unknown keys, and with lists
    in the place of iterables, whose items pydantic would not check."""

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def of(self, kind: Any) -> Any:
        """The strict form of `kind`."""
        if typing_extensions.is_typeddict(kind):
            return self._typed_dict(kind)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is None or origin is typing.Literal:
            return kind
        if origin in (typing.Required, typing_extensions.Required, typing.NotRequired):
            return self.of(arguments[0])
        if origin is typing.Annotated:
            return self.of(arguments[0])
        if origin in (typing.Union, types.UnionType):
            return typing.Union[tuple(map(self.of, arguments))]  # noqa: UP007  # of a tuple
        if origin in (dict, collections.abc.Mapping):
            return types.GenericAlias(dict, (arguments[0], self.of(arguments[1])))
        return types.GenericAlias(list, (self.of(arguments[0]),))

    def _typed_dict(self, kind: Any) -> Any:
        if kind in self._made:
            return self._made[kind]
        self._made[kind] = dict[str, Any]  # where it contains itself
        hints = typing_extensions.get_type_hints(kind)
        required, optional = kind.__required_keys__, typing_extensions.NotRequired
        fields = {}
        for name, hint in hints.items():
            strict = self.of(hint)
            fields[name] = strict if name in required else optional[strict]
        create: Any = typing_extensions.TypedDict
        made = create(kind.__name__, fields)
        made.__pydantic_config__ = ConfigDict(extra="forbid")
        self._made[kind] = made
        return made
