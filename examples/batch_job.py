"""A batch job with a budget: it stops at the limit, and the next run continues where it ended.

The script plays two runs in a temporary folder, the second one with a larger budget. In your own
job, `in.jsonl` holds the prompts, the model is one like ``"openai:gpt-6.1-terra"``, and one run is
one call of `job`.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from agentkit import Budget, BudgetExceededError, LLMManager, Response, Usage, complete_file

PRICES = {"small": {"cost_per_1k_input_tokens": 0.001, "cost_per_1k_output_tokens": 0.002}}


async def model(prompt: str, kwargs: dict) -> Response:
    """A stand-in for a model. Each answer costs 0.0002 USD."""
    return Response(f"A summary of {prompt}", Usage(input_tokens=100, output_tokens=50))


async def job(folder: Path, usd: float) -> None:
    """Answer what is not answered yet. All runs together spend at most `usd` US dollars."""
    budget = Budget(usd=usd)
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    async with LLMManager(prices=PRICES, enable_caching=False) as llm:
        llm.register_model("model", model, {"model": "small"}, timeout=60)
        try:
            done = await complete_file(llm, source, target, budget=budget)
            print(f"kept {done.kept}, answered {done.answered}, failed {done.failed}")
        except BudgetExceededError:
            print(f"stopped with {len(target.read_text().splitlines())} answers")
    print(f"spent {budget.spent_usd:.4f} USD")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    lines = [{"id": n, "prompt": f"document {n}", "max_tokens": 50} for n in range(200)]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    asyncio.run(job(folder, usd=0.03))
    asyncio.run(job(folder, usd=0.05))
