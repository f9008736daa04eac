"""LangGraph with its SQLite checkpointer: each super-step is on the disk before the next begins."""

# mypy: ignore-errors
# ruff: noqa: ARG001 - a tool has the parameters that the model sees, used or not

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from benchmarks.durability.plan import Counter


def work(runs: Sequence[str], url: str, port: int, folder: Path, journal: str) -> None:
    """Begin or continue `runs`, all at once, and write down how each ended."""
    connection = sqlite3.connect(folder / "langgraph.sqlite", check_same_thread=False, timeout=60)
    graph = build(url, Counter(port)).compile(checkpointer=SqliteSaver(connection))

    def finish(run: str) -> None:
        config: Any = {"configurable": {"thread_id": run}, "recursion_limit": 200}
        values = graph.get_state(config).values
        messages = values.get("messages") or [None]
        if not isinstance(messages[-1], AIMessage) or messages[-1].tool_calls:
            task = None if messages[-1] else {"messages": [("user", f"Run {run}.")]}
            values = graph.invoke(task, config, durability="sync")
        ended = {"run": run, "text": values["messages"][-1].content, "in_doubt": []}
        with (folder / "ended.jsonl").open("a") as file:
            file.write(json.dumps(ended) + "\n")

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(finish, runs))


def build(url: str, counter: Counter) -> Any:
    """The graph of a model and its tools, as `create_react_agent` builds it."""

    @tool
    def look(run: str, step: int) -> str:
        """Look."""
        return f"seen in step {step}"

    @tool
    def put(run: str, step: int) -> str:
        """Put."""
        counter.did(run, "put", step)
        return "put"

    @tool
    def charge(run: str, step: int) -> str:
        """Charge."""
        counter.did(run, "charge", step)
        return "charged"

    @tool
    def mail(run: str, step: int) -> str:
        """Send a mail."""
        counter.did(run, "mail", step)
        return "sent"

    def model(state: MessagesState) -> dict[str, Any]:
        body = {"model": "m", "messages": [encode(each) for each in state["messages"]]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        message = answer["choices"][0]["message"]
        calls = [
            {
                "id": call["id"],
                "name": call["function"]["name"],
                "args": json.loads(call["function"]["arguments"]),
            }
            for call in message.get("tool_calls") or ()
        ]
        return {"messages": [AIMessage(message["content"] or "", tool_calls=calls)]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode([look, put, charge, mail]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "model")
    return graph


def encode(message: Any) -> dict[str, Any]:
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if isinstance(message, AIMessage):
        calls = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
            }
            for call in message.tool_calls
        ]
        return {"role": "assistant", "content": message.content, "tool_calls": calls}
    return {"role": "user", "content": message.content}
