"""The deltas of Anthropic's stream events, typed for msgspec: an answer has hundreds of them.

Any other event, and a delta with a field that is not listed here, is read as a `Record` instead, so
that nothing is left out of ``TextDelta.raw``.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class _Delta(Struct, gc=False, forbid_unknown_fields=True):
    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    partial_json: Any = None
    estimated_tokens: Any = None


class DeltaRecord(Struct, gc=False, forbid_unknown_fields=True):
    """A ``content_block_delta`` event."""

    type: Literal["content_block_delta"]
    delta: _Delta
    index: Any = None
    error: Any = None
