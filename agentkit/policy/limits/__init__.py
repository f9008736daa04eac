"""Rate limits, keys and concurrency: one queue of callers in front of each model."""

from agentkit.policy.limits.estimate import (
    DEFAULT_OUTPUT,
    estimate_need,
    estimate_tokens,
    estimate_usage,
    output_limit,
)
from agentkit.policy.limits.member import LONGEST_PAUSE, Member
from agentkit.policy.limits.pool import (
    AGING,
    COOLDOWN,
    UNHEALTHY_AFTER,
    Lease,
    Pool,
    Strategy,
    key_fingerprint,
)
from agentkit.policy.limits.pool_config import PoolConfig
from agentkit.policy.limits.rates import WINDOW, Admission, Need, RateLimits, RateWindow
from agentkit.policy.limits.shared import OnLoss, Sharing, Waiting

__all__ = [
    "AGING",
    "COOLDOWN",
    "DEFAULT_OUTPUT",
    "LONGEST_PAUSE",
    "UNHEALTHY_AFTER",
    "WINDOW",
    "Admission",
    "Lease",
    "Member",
    "Need",
    "OnLoss",
    "Pool",
    "PoolConfig",
    "RateLimits",
    "RateWindow",
    "Sharing",
    "Strategy",
    "Waiting",
    "estimate_need",
    "estimate_tokens",
    "estimate_usage",
    "key_fingerprint",
    "output_limit",
]
