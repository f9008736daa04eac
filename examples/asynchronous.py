"""Many concurrent requests: bounded, with shared identical calls and failures kept in order."""

import asyncio

from agentkit import LLMManager

calls: list[str] = []


async def model(prompt: str, kwargs: dict) -> str:
    calls.append(prompt)
    await asyncio.sleep(0.01)
    if "impossible" in prompt:
        raise ValueError("no answer to that")
    return prompt[::-1]


async def main() -> None:
    async with LLMManager(cache="memory") as llm:
        llm.register_model("model", model, timeout=5, max_concurrency=4)
        answers = await asyncio.gather(*(llm.agenerate("the same question") for _ in range(100)))
        print(f"{len(answers)} answers from {len(calls)} upstream call")

        result = await llm.abatch(
            ["one", "impossible", {"prompt": "three", "use_cache": False}],
            max_concurrency=2,
            on_progress=lambda done, total: print(f"{done}/{total}"),
        )
        print([str(each) for each in result.responses], len(result.errors))


asyncio.run(main())
