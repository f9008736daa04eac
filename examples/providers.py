"""Providers by name, several keys, and a conversation that moves from one provider to another.

The requests go over real sockets to a local `WireServer`. Without `base_url`, the same names
(``"openai:…"``, ``"anthropic:…"``) use the vendors, with keys from the environment. Requires the
extras ``openai`` and ``anthropic``.
"""

from agentkit import ConnectionPool, LLMManager, Message, RateLimits, RetryPolicy, provider_for
from agentkit.testing import WireServer, faults

conversation = [
    Message("system", "Answer in one word."),
    Message("user", "What is the capital of France?"),
]

with (
    WireServer(reply="Paris.") as server,
    LLMManager(retry=RetryPolicy(base_delay=0.05), enable_caching=False) as llm,
):
    gpt = provider_for("openai:gpt-x", base_url=server.openai_url)
    claude = provider_for("anthropic:claude-x", api_key="local", base_url=server.anthropic_url)
    keys = ConnectionPool(["first", "second"], limits=RateLimits(requests_per_minute=50))
    llm.register_model("gpt", gpt, timeout=20, pool=keys)
    llm.register_model("claude", claude, timeout=20)
    llm.set_fallback_chain(["gpt", "claude"])

    server.script(faults.status(429, retry_after=5))
    reply = llm.complete(conversation)
    print(reply.ledger, "|", reply.usage.total_tokens, "tokens")

    conversation += [Message("assistant", reply.text), Message("user", "And of Italy?")]
    server.always(faults.status(503), model="gpt-x")
    server.script("Rome.", model="claude-x")
    print(llm.complete(conversation).ledger)

    with llm.stream(conversation, model="claude") as stream:
        for piece in stream:
            print(piece, end="|")
    print()

    for key in llm.get_status()["pools"]["gpt"]["clients"]:
        print(key["key"], "served", key["served"])

gpt.close()  # the caller closes what `provider_for` returns
claude.close()
