"""A FastAPI service: an answer as JSON, and an answer that is streamed to a browser.

``uvicorn fastapi_service:app`` serves it at http://127.0.0.1:8000. Run as a script, it asks itself
one question in each way. Requires fastapi and uvicorn, and httpx2 for the script.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from agentkit import (
    ContentFilterError,
    DeadlineExceededError,
    InvalidRequestError,
    LLMError,
    LLMManager,
    ModelNotFoundError,
    RetryPolicy,
)


async def primary(prompt: str, kwargs: dict) -> str:
    raise ConnectionError("the primary is down")


async def backup(prompt: str, kwargs: dict) -> AsyncIterator[str]:
    for word in ("Paris ", "is ", "the ", "capital."):
        yield word


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One manager for each process: its breakers learn from all requests."""
    retry = RetryPolicy(base_delay=0.05)
    async with LLMManager(name="web", retry=retry, enable_caching=False) as llm:
        llm.register_model("primary", primary)  # or a name: "openai:gpt-6.1-terra"
        llm.register_model("backup", backup)
        llm.set_fallback_chain(["primary", "backup"])
        app.state.llm = llm
        yield


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    question: str = Field(min_length=1, max_length=4000)


class Answer(BaseModel):
    answer: str
    model: str


@app.post("/answer")
async def answer(body: Question, request: Request) -> Answer:
    reply = await request.app.state.llm.acomplete(body.question, deadline=20)
    return Answer(answer=reply.text, model=reply.model)


def status_of(error: LLMError) -> int:
    """The HTTP status of a failure: a mistake of ours, a bad request, a timeout, or an outage."""
    if isinstance(error, ModelNotFoundError):
        return 500
    if isinstance(error, InvalidRequestError | ContentFilterError):
        return 422
    return 504 if isinstance(error, DeadlineExceededError) else 503


@app.exception_handler(LLMError)
async def on_error(request: Request, error: LLMError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
    return JSONResponse({"error": error.kind}, status_of(error), headers)


@app.get("/stream")
async def stream(question: str, request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            async with request.app.state.llm.astream(question, deadline=60) as pieces:
                async for piece in pieces:
                    yield event("text", piece)
            yield event("done", pieces.response.model)
        except LLMError as error:  # the status 200 is sent already
            yield event("failure", error.kind)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def event(name: str, value: str) -> str:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


PAGE = """<!doctype html>
<form><input name="question" value="What is the capital of France?"><button>Ask</button></form>
<p id="answer"></p>
<script>
  let source;
  document.querySelector("form").onsubmit = (submitted) => {
    submitted.preventDefault();
    const shown = document.getElementById("answer");
    const question = new FormData(submitted.target).get("question");
    shown.textContent = "";
    source?.close();
    source = new EventSource("stream?question=" + encodeURIComponent(question));
    source.addEventListener("text", (e) => { shown.textContent += JSON.parse(e.data); });
    source.addEventListener("done", () => source.close());
    source.addEventListener("failure", (e) => {
      source.close();
      shown.textContent += " (failed: " + JSON.parse(e.data) + ")";
    });
    source.onerror = () => source.close();  // otherwise the browser would ask again
  };
</script>
"""


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        question = "What is the capital of France?"
        print(client.post("/answer", json={"question": question}).json())
        print(client.get("/stream", params={"question": question}).text)
