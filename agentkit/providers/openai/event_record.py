"""The deltas of the responses API's stream events, typed for msgspec: an answer has hundreds.

Any other event, and a delta with a field that is not listed here, is read as a `Record` instead, so
that nothing is left out of ``TextDelta.raw``.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class DeltaRecord(Struct, gc=False, forbid_unknown_fields=True):
    """An event such as ``response.output_text.delta``."""

    type: str
    delta: Any
    item_id: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    sequence_number: Any = None
    logprobs: Any = None
    obfuscation: Any = None
    error: Any = None
