"""A run that charges a card: killed, approved, killed again while it charges, and resumed.

Each part runs in a process of its own, as after a deploy or a crash. The card is charged once.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from agentkit import Agent, LLMManager, Request, Response, RunStore, ToolCall, ToolContext, tool

folder = Path(os.environ.get("SHOP_FOLDER", "."))
card = folder / "card.txt"  # the card company's books: one line a charge, outside of our processes
dies = os.environ.get("SHOP_DIES", "")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@tool(effect="none")
def price(order: str) -> int:
    """The price of an order in dollars."""
    if dies == "before the price":
        die()
    return 40


def was_charged(call: ToolCall, context: ToolContext) -> str:
    """Ask the card company about a charge that may have happened."""
    charged = card.exists() and context.effect_key in card.read_text()
    return "charged" if charged else "not done"


@tool(effect="once", approve=True, resolve=was_charged)
def charge(order: str, dollars: int, context: ToolContext) -> str:
    """Charge the customer's card."""
    with card.open("a") as books:
        books.write(f"{context.effect_key} {order} {dollars}\n")
    if dies == "after the charge":
        die()
    return "charged"


class Model:
    """A stand-in for a model: asks for the price, then charges it, then answers."""

    capabilities = frozenset({"messages", "tools"})

    def send(self, request: Request) -> Response:
        results = [message.text for message in request.messages if message.role == "tool"]
        if not results:
            return Response("", tool_calls=(ToolCall("price-1", "price", {"order": "17"}),))
        if len(results) == 1:
            payment = {"order": "17", "dollars": int(results[0])}
            return Response("", tool_calls=(ToolCall("charge-1", "charge", payment),))
        return Response("Order 17 is paid.")


def process(step: str, dies: str = "") -> None:
    """Run this file in a new process."""
    environment = {**os.environ, "SHOP_FOLDER": str(folder), "SHOP_DIES": dies}
    command = [sys.executable, __file__, step]
    ended = subprocess.run(command, env=environment, check=False)  # noqa: S603 - this very file
    print(f"  the process {'was killed' if ended.returncode else 'ended'}")


def clerk() -> Agent:
    llm = LLMManager(enable_caching=False)
    llm.register_model("model", Model())
    return Agent(
        llm,
        instructions="You take payments.",
        tools=[price, charge],
        journal=f"sqlite:///{folder}/runs.sqlite",
    )


if len(sys.argv) > 1:
    if sys.argv[1] == "start":
        result = clerk().run("Take the payment for order 17.", run_id="order-17")
    elif sys.argv[1] == "approve":
        result = clerk().resume("order-17", approve=["charge-1"])
    else:
        result = clerk().resume("order-17")
    for pending in result.pending:
        print("  waits for approval:", pending.call.name, dict(pending.call.arguments))
    print(" ", result.status, result.text)
    sys.exit()

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    card = folder / "card.txt"
    print("a process starts the run and is killed:")
    process("start", dies="before the price")
    print("the next one continues it:")
    process("resume")
    print("it is approved, and the process is killed after the charge:")
    process("approve", dies="after the charge")
    print("the last one finds out what happened:")
    process("resume")
    with RunStore(f"sqlite:///{folder}/runs.sqlite") as store:
        print("status:", store.run("order-17").status)
    print("charges:", len(card.read_text().splitlines()))
