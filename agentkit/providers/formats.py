"""The wish for JSON, whoever words it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.types import Request


def with_format(request: Request, options: dict[str, Any]) -> Request:
    """`request` with the ``response_format`` among its parameters, taken out of `options`.

    Understood are `Request`'s own shape and OpenAI's, for providers that have no such parameter.

    Raises:
        InvalidRequestError: it is neither.
    """
    wish = options.pop("response_format", None)
    if wish is None or request.response_format is not None:
        return request
    kind = wish.get("type") if isinstance(wish, Mapping) else None
    if kind == "text":
        return request
    if kind == "json_object":
        return replace(request, response_format={"type": kind})
    if kind == "json_schema":
        inner = wish.get("json_schema", wish)
        if isinstance(inner, Mapping) and isinstance(inner.get("schema"), Mapping):
            name = str(inner.get("name") or "answer")
            named = {"type": kind, "name": name, "schema": inner["schema"]}
            return replace(request, response_format=named)
    raise InvalidRequestError(
        "response_format is neither a JSON schema nor JSON mode",
        hint='write {"type": "json_schema", "name": ..., "schema": ...} or {"type": "json_object"}',
    )
