"""Requests without a feature that a model refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Arguments = dict[str, Any]

FEATURES: Final = frozenset(
    {"tools", "caching", "documents", "images", "video", "additional_fields"}
)
"""The features that a request can do without. Guardrails are not among them."""
_BLOCKS: Final = {"images": "image", "documents": "document", "video": "video"}


def without(arguments: Arguments, feature: str, fields: Iterable[str] = ()) -> Arguments | None:
    """A copy of Converse's arguments without `feature`; None if that is impossible.

    It is if they do not use the feature, if a message would be empty without it, or if a guardrail
    would be removed with it.

    Args:
        arguments: of the request; they are not changed.
        feature: tools, caching, documents, images, video or additional_fields.
        fields: which of the additional fields to leave out; empty: all of them.
    """
    if feature == "tools":
        return _without_tools(arguments)
    if feature == "additional_fields":
        return _without_fields(arguments, frozenset(fields))
    if feature == "caching":
        return _without_blocks(arguments, "cachePoint", everywhere=True)
    return _without_blocks(arguments, _BLOCKS[feature])


def _without_fields(arguments: Arguments, fields: frozenset[str]) -> Arguments | None:
    given = arguments.get("additionalModelRequestFields") or {}
    rest = {name: value for name, value in given.items() if fields and name not in fields}
    if len(rest) == len(given) or any("guardrail" in name.lower() for name in given.keys() - rest):
        return None
    reduced = _without_key(arguments, "additionalModelRequestFields")
    return {**reduced, "additionalModelRequestFields": rest} if rest else reduced


def _without_key(arguments: Arguments, left_out: str) -> Arguments:
    return {name: value for name, value in arguments.items() if name != left_out}


def _without_tools(arguments: Arguments) -> Arguments | None:
    used = any(
        "toolUse" in block or "toolResult" in block
        for message in arguments["messages"]
        for block in message["content"]
    )
    if used or "toolConfig" not in arguments:
        return None
    return _without_key(arguments, "toolConfig")


def _without_blocks(
    arguments: Arguments, kind: str, *, everywhere: bool = False
) -> Arguments | None:
    found = False

    def kept(blocks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        nonlocal found
        rest = [block for block in blocks if kind not in block]
        found = found or len(rest) != len(blocks)
        return rest

    changed = dict(arguments)
    messages = [{**each, "content": kept(each["content"])} for each in arguments["messages"]]
    if any(not each["content"] for each in messages):
        return None
    changed["messages"] = messages
    if everywhere:
        _everywhere(changed, kept)
    return changed if found else None


def _everywhere(
    changed: Arguments, kept: Callable[[list[Mapping[str, Any]]], list[Mapping[str, Any]]]
) -> None:
    if "system" in changed:
        changed["system"] = kept(changed["system"])
    if "toolConfig" in changed:
        tools = changed["toolConfig"]
        changed["toolConfig"] = {**tools, "tools": kept(tools["tools"])}
