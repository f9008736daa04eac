"""A batch job with a budget: it stops at the limit, and the next run continues where it ended.

The script plays two runs in a temporary folder. In your own job, `in.jsonl` holds the prompts, the
model is one like ``"openai:gpt-6.1-terra"``, and one run is one call of `job`.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from agentkit import Budget, LLMManager, Response, Usage, complete_file

PRICES = {"small": {"cost_per_1k_input_tokens": 0.001, "cost_per_1k_output_tokens": 0.002}}


async def model(prompt: str, kwargs: dict) -> Response:
    """A stand-in for a model. Each answer costs 0.0002 USD."""
    return Response(f"A summary of {prompt}", Usage(input_tokens=100, output_tokens=50))


async def job(folder: Path, usd: float) -> None:
    """Answer what is not answered yet, for at most `usd` US dollars."""
    budget = Budget(usd=usd)
    async with LLMManager(prices=PRICES, budget=budget, enable_caching=False) as llm:
        llm.register_model("model", model, {"model": "small"}, timeout=60)
        done = await complete_file(llm, folder / "in.jsonl", folder / "out.jsonl")
    print(f"kept {done.kept}, answered {done.answered}, failed {done.failed}")
    print(f"spent {budget.spent_usd:.4f} USD")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    lines = [{"id": n, "prompt": f"document {n}", "max_tokens": 50} for n in range(200)]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    asyncio.run(job(folder, usd=0.03))
    first = json.loads((folder / "out.jsonl").read_text().splitlines()[-1])
    print(first["error"]["type"])
    asyncio.run(job(folder, usd=0.03))
