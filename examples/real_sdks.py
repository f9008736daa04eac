"""The openai and anthropic SDKs as inference functions, with an outage.

The requests go over real sockets to a local `WireServer`. To use the vendors, remove `base_url` and
set your keys. Requires the extras ``openai`` and ``anthropic``.
"""

import anthropic
import openai

from agentkit import LLMManager, RetryPolicy
from agentkit.testing import WireServer, faults

server = WireServer(reply="Society will adapt.").start()

openai_client = openai.OpenAI(base_url=server.openai_url, api_key="local", max_retries=0)
anthropic_client = anthropic.Anthropic(
    base_url=server.anthropic_url, api_key="local", max_retries=0
)


def openai_model(prompt: str, kwargs: dict) -> str:
    response = openai_client.chat.completions.create(
        model="gpt-4", messages=[{"role": "user", "content": prompt}], **kwargs
    )
    return response.choices[0].message.content or ""


def anthropic_model(prompt: str, kwargs: dict) -> str:
    message = anthropic_client.messages.create(
        model="claude-sonnet-5",
        max_tokens=kwargs.get("max_tokens", 1024),
        messages=[{"role": "user", "content": prompt}],
    )
    return "".join(block.text for block in message.content if block.type == "text")


with LLMManager(retry=RetryPolicy(base_delay=0.05), cache="memory") as llm:
    llm.register_model("gpt-4", openai_model, {"provider": "openai"}, timeout=20)
    llm.register_model("claude", anthropic_model, {"provider": "anthropic"}, timeout=20)
    llm.set_fallback_chain(["gpt-4", "claude"])

    print(llm.complete("Analyze the impact of AI on society", temperature=0.7).ledger)
    server.always(faults.status(503), model="gpt-4")
    print(llm.complete("And on schools?", temperature=0.7).ledger)
    print(llm.complete("And on music?", temperature=0.7).ledger)
    print(llm.get_model_info("gpt-4")["circuit_breaker_state"])

openai_client.close()
anthropic_client.close()
server.close()
