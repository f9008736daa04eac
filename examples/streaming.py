"""Streams: fallback before the first content, and a visible restart after it."""

from collections.abc import Iterator

from agentkit import LLMManager, Restart, StreamInterruptedError, TextDelta


def interrupted(prompt: str, kwargs: dict) -> Iterator[str]:
    yield "The answer "
    raise ConnectionResetError


def complete(prompt: str, kwargs: dict) -> Iterator[str]:
    yield from ("The answer ", "is ", "42.")


with LLMManager(enable_caching=False) as llm:
    llm.register_model("interrupted", interrupted)
    llm.register_model("complete", complete)
    llm.set_fallback_chain(["interrupted", "complete"])

    try:
        with llm.stream("What is the answer?") as stream:
            for text in stream:
                print(text)
    except StreamInterruptedError as error:
        print("interrupted after", repr(error.partial))

    shown = ""
    with llm.stream("What is the answer?", on_interrupt="restart") as stream:
        for event in stream.events():
            if isinstance(event, TextDelta):
                shown += event.text
            elif isinstance(event, Restart):
                print("restarting at", event.model)
                shown = ""
    print(shown, "|", stream.response.ledger)
