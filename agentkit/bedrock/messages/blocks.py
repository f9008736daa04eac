"""The content blocks of the Converse API: one function makes and checks each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agentkit.bedrock.messages.formats import (
    CachePointTTLEnum,
    GuardContentQualifierEnum,
    ToolResultStatusEnum,
)
from agentkit.providers.bedrock.errors import invalid

Block = dict[str, Any]
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TOOL_USE_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")


def build_cache_point(
    cache_type: str = "default", ttl: CachePointTTLEnum | str | None = None
) -> Block:
    """A cache point: the service may cache the prompt before it.

    Args:
        cache_type: ``"default"`` is the only type the service knows.
        ttl: ``"5m"`` or ``"1h"``; None leaves it to the service (five minutes).

    Raises:
        RequestValidationError: another type or ttl.
    """
    if cache_type != "default":
        raise invalid(f"unknown cache point type {cache_type!r}", "the service knows 'default'")
    point: Block = {"type": "default"}
    if ttl is not None:
        point["ttl"] = member(CachePointTTLEnum, ttl, "ttl").value
    return {"cachePoint": point}


def build_json_schema_output_config(
    schema: Mapping[str, Any] | str, name: str = "answer", description: str | None = None
) -> Block:
    """The ``outputConfig`` of a request whose answer must be JSON that matches `schema`.

    The service takes the schema as a JSON string; a mapping is encoded.

    Raises:
        RequestValidationError: `schema` is not a JSON object, or cannot be encoded.
    """
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else dict(schema)
        text = json.dumps(parsed, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise invalid(f"the schema is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise invalid(f"a JSON schema must be an object, got {type(parsed).__name__}")
    definition: Block = {"schema": text, "name": name}
    if description is not None:
        definition["description"] = description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}


def s3_source(uri: str, bucket_owner: str | None = None) -> Block:
    """The source of a file in S3.

    Raises:
        RequestValidationError: `uri` is not ``s3://bucket/key``, or the owner not 12 digits.
    """
    if not re.fullmatch(r"s3://[a-z0-9.\-]{3,63}/.+", uri or ""):
        raise invalid(f"{uri!r} is not an S3 URI", "write s3://bucket/key")
    location: Block = {"uri": uri}
    if bucket_owner is not None:
        if not re.fullmatch(r"[0-9]{12}", bucket_owner):
            raise invalid(f"bucket owner {bucket_owner!r} is not an account id of 12 digits")
        location["bucketOwner"] = bucket_owner
    return {"s3Location": location}


def guard_content(
    text: str, qualifiers: Iterable[GuardContentQualifierEnum | str] | None = None
) -> Block:
    """Text for a guardrail to assess, and what it is."""
    inner: Block = {"text": text}
    if qualifiers is not None:
        given = [qualifiers] if isinstance(qualifiers, str) else list(qualifiers)
        inner["qualifiers"] = [
            member(GuardContentQualifierEnum, one, "qualifier").value for one in given
        ]
    return {"guardContent": {"text": inner}}


def tool_use(tool_use_id: str, name: str, input: Mapping[str, Any]) -> Block:  # noqa: A002
    """A tool call of the assistant.

    Raises:
        RequestValidationError: the service does not accept the id or the name, or `input` is not a
            mapping.
    """
    if not _TOOL_NAME.fullmatch(name):
        raise invalid(f"{name!r} is not a tool name", "1–64 letters, digits, _ or -")
    if not isinstance(input, Mapping):
        raise invalid(f"the input of a tool must be a mapping, got {type(input).__name__}")
    return {"toolUse": {"toolUseId": checked_id(tool_use_id), "name": name, "input": dict(input)}}


def tool_result(
    tool_use_id: str,
    content: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
    status: ToolResultStatusEnum | str | None = None,
) -> Block:
    """The result of a tool: a string, a JSON object, or a list of result blocks.

    Raises:
        RequestValidationError: an unknown status, an unacceptable id, or content of another type.
    """
    given: Any = content
    blocks: list[Any]
    if isinstance(given, str):
        blocks = [{"text": given}]
    elif isinstance(given, Mapping):
        blocks = [{"json": dict(given)}]
    elif isinstance(given, list | tuple):
        blocks = [dict(block) for block in given]
    else:
        kind = type(given).__name__
        raise invalid(f"a tool result must be a string, a mapping or a list of blocks, got {kind}")
    result: Block = {"toolUseId": checked_id(tool_use_id), "content": blocks}
    if status is not None:
        result["status"] = member(ToolResultStatusEnum, status, "status").value
    return {"toolResult": result}


def reasoning(
    text: str | None, signature: str | None = None, redacted: bytes | None = None
) -> Block:
    """The reasoning of an earlier answer, unchanged: a signed text, or redacted bytes.

    Raises:
        RequestValidationError: both text and redacted bytes, or neither.
    """
    if (text is None) == (redacted is None):
        raise invalid("reasoning is either text or redacted bytes")
    if redacted is not None:
        return {"reasoningContent": {"redactedContent": bytes(redacted)}}
    inner: Block = {"text": text}
    if signature is not None:
        inner["signature"] = signature
    return {"reasoningContent": {"reasoningText": inner}}


def checked_id(tool_use_id: str) -> str:
    """`tool_use_id`, if the service accepts it.

    Raises:
        RequestValidationError: it does not.
    """
    if not _TOOL_USE_ID.fullmatch(tool_use_id):
        raise invalid(f"{tool_use_id!r} is not a tool use id")
    return tool_use_id


def member(enum: Any, value: Any, what: str) -> Any:
    """`value` as a member of `enum`.

    Raises:
        RequestValidationError: no such member.
    """
    try:
        return enum(value)
    except ValueError:
        known = ", ".join(one.value for one in enum)
        raise invalid(f"{value!r} is not a {what}", f"use one of: {known}") from None
