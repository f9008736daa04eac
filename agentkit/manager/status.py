"""The parts of a manager's status that concern its models, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.manager.keys import pool_status
from agentkit.policy.target import Target
from agentkit.telemetry.recorder import Recorder


def model_info(target: Target, recorder: Recorder) -> dict[str, Any]:
    """The metadata, the statistics and the breaker state of a model."""
    return {
        "name": target.name,
        "metadata": dict(target.metadata),
        "stats": recorder.model(target.name),
        "circuit_breaker_state": target.breaker_state,
    }


def breakdown(targets: Mapping[str, Target], recorder: Recorder) -> dict[str, Any]:
    """The breakdown of the metrics, and under ``providers`` that of each provider."""
    by_provider: dict[str, list[str]] = {}
    for name, target in targets.items():
        by_provider.setdefault(target.provider, []).append(name)
    each = {provider: recorder.breakdown(names) for provider, names in by_provider.items()}
    return {**recorder.breakdown(), "providers": each}


def pools(targets: Mapping[str, Target], now: float) -> dict[str, Any]:
    """The state of the limits of each model that has them."""
    return {
        name: pool_status(target.pool, now)
        for name, target in targets.items()
        if target.pool is not None
    }
