"""Rate limits, keys and concurrency: one queue of callers in front of each model."""

from agentkit.policy.limits.estimate import (
    DEFAULT_OUTPUT,
    estimate_need,
    estimate_tokens,
    estimate_usage,
    output_limit,
)
from agentkit.policy.limits.pool import (
    AGING,
    COOLDOWN,
    UNHEALTHY_AFTER,
    Lease,
    Member,
    Pool,
    Strategy,
    key_fingerprint,
)
from agentkit.policy.limits.pool_config import PoolConfig
from agentkit.policy.limits.rates import WINDOW, Admission, Need, RateLimits, RateWindow

__all__ = [
    "AGING",
    "COOLDOWN",
    "DEFAULT_OUTPUT",
    "UNHEALTHY_AFTER",
    "WINDOW",
    "Admission",
    "Lease",
    "Member",
    "Need",
    "Pool",
    "PoolConfig",
    "RateLimits",
    "RateWindow",
    "Strategy",
    "estimate_need",
    "estimate_tokens",
    "estimate_usage",
    "key_fingerprint",
    "output_limit",
]
