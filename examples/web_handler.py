"""A web handler in the style of FastAPI: one manager per process, a deadline for each request.

It needs no web framework: the handler is a coroutine that takes and returns plain values.
"""

import asyncio
import json

from agentkit import AllModelsFailedError, DeadlineExceededError, LLMError, LLMManager


async def primary(prompt: str, kwargs: dict) -> str:
    await asyncio.sleep(60)
    return "too late"


async def backup(prompt: str, kwargs: dict) -> str:
    return f"You said: {prompt}"


def build() -> LLMManager:
    """Create the manager at start-up; call `aclose` at shutdown."""
    llm = LLMManager(name="web", cache="memory")
    llm.register_model("primary", primary, timeout=0.2)
    llm.register_model("backup", backup)
    llm.set_fallback_chain(["primary", "backup"])
    return llm


async def handle(llm: LLMManager, body: dict) -> tuple[int, dict]:
    """Handle POST /answer: return the status and the JSON body."""
    try:
        reply = await llm.acomplete(body["question"], deadline=2.0)
    except DeadlineExceededError:
        return 504, {"error": "no model answered in time"}
    except AllModelsFailedError as error:
        return 503, {"error": "no model is available", "retry_after": error.retry_after}
    except LLMError as error:
        return 400, {"error": error.message}
    return 200, {"answer": reply.text, "model": reply.model, "attempts": len(reply.ledger.sent)}


async def main() -> None:
    async with build() as llm:
        for question in ("Is anyone there?", ""):
            status, body = await handle(llm, {"question": question})
            print(status, json.dumps(body))


asyncio.run(main())
