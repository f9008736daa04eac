"""The global providers of OpenTelemetry: whether the application has set them.

Until it has, the API returns tracers and instruments that do nothing, and calling them would take a
fifth of the time of a call. The API has no cheap way to find out: its `get_tracer_provider` reads
the environment each time. So this module, and no other, uses private names of the API. If a release
renames them, the providers count as set, which costs time and changes nothing else.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

_meters: Any
try:
    from opentelemetry.metrics import _internal as _meters
except ImportError:
    _meters = None


def has_tracer_provider() -> bool:
    """Whether the application has set a global tracer provider."""
    try:
        return trace._TRACER_PROVIDER is not None
    except AttributeError:
        return True


def has_meter_provider() -> bool:
    """Whether the application has set a global meter provider."""
    try:
        return _meters._METER_PROVIDER is not None
    except AttributeError:
        return True
