"""Your own functions as models: a fallback chain, the ledger, and the metrics."""

from agentkit import LLMManager, RetryPolicy


class QuotaExceededError(Exception):
    """An exception with a status: agentkit treats it as a 429 with a Retry-After."""

    status_code = 429
    retry_after = 30.0


def primary(prompt: str, kwargs: dict) -> str:
    raise QuotaExceededError


def backup(prompt: str, kwargs: dict) -> str:
    return f"{prompt.upper()} (temperature {kwargs['temperature']})"


with LLMManager(retry=RetryPolicy(base_delay=0.01), cache="memory") as llm:
    llm.register_model("primary", primary, {"provider": "openai", "cost_per_1k_tokens": 0.03})
    llm.register_model("backup", backup, {"provider": "anthropic"}, timeout=10)
    llm.set_fallback_chain(["primary", "backup"])

    print(llm.generate("hello", temperature=0))
    print(llm.complete("hello again", temperature=0).ledger.explain())
    print(llm.complete("hello again", temperature=0).cached)

    metrics = llm.get_metrics()
    print(f"success rate {metrics['success_rate']:.0%}, cache hits {metrics['cache_hits']}")
    print(llm.get_model_info("primary")["stats"])
