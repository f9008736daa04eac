"""What a newcomer does in the first hour, with an installed agentkit: no key, no network.

Run by `.ci/smoke` with the Python of a clean environment, outside the tree. It pastes the blocks of
the README into a prompt, twice, and runs the three programs of the documentation: a FastAPI service
that streams to a browser, an agent with two tools, and a batch job with a budget that is continued.
Usage: first_hour.py <tree>
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TREE = Path(sys.argv[1]).resolve()
FOLDER = Path(tempfile.mkdtemp(dir=Path.cwd()))
PROMPTS = re.compile(r"^(?:(?:>>>|\.\.\.) )+", re.MULTILINE)
GUARD = """
from agentkit.testing import forbid_network

guard = forbid_network()
guard.__enter__()
"""
PROMPT = """
import ast, asyncio, code, inspect, types

class Prompt(code.InteractiveConsole):
    def runcode(self, block):
        async def run():
            result = types.FunctionType(block, self.locals)()
            if inspect.iscoroutine(result):
                await result
        runner.run(run())

prompt = Prompt()
prompt.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
with asyncio.Runner() as runner:
    prompt.interact(banner="", exitmsg="")
"""
"""What `python -m asyncio` does on a terminal; without one, it takes no blocks in Python 3.13."""

SECONDS = 60


def environment() -> dict[str, str]:
    """No key, and no connection to another machine."""
    (FOLDER / "sitecustomize.py").write_text(GUARD)
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    return kept | {"PYTHONPATH": str(FOLDER), "PYTHONIOENCODING": "utf-8"}


ENVIRONMENT = environment()


def python(*arguments: str, typed: str = "") -> str:
    """What a run of Python prints. It must succeed, without a warning or a traceback."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=FOLDER,
        env=ENVIRONMENT,
        input=typed,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=SECONDS,
    )
    unwanted = ("Traceback", "Error", "Warning")
    if finished.returncode or any(each in finished.stderr for each in unwanted):
        sys.exit(f"{arguments[-1]} failed:\n{finished.stdout}{finished.stderr}")
    return finished.stdout


def readme_blocks() -> Iterator[str]:
    """The blocks of the README that are Python."""
    text = (TREE / "README.md").read_text("utf-8")
    yield from re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def paste_the_readme() -> None:
    """Twice the same answers, and those that the README shows."""
    blocks = list(readme_blocks())
    expected = re.findall(r"^\s*#> (.*)$", "".join(blocks), re.MULTILINE)
    for run in ("first", "second"):
        shown = PROMPTS.sub("", python("-c", PROMPT, typed="\n".join(blocks) + "\n"))
        if shown.splitlines() != expected:
            sys.exit(f"the {run} run of the README prints\n{shown}")


@contextmanager
def service() -> Iterator[str]:
    """The address of the FastAPI service, while it runs under uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_service:app", "--port", "0"]
    (FOLDER / "fastapi_service.py").write_bytes((TREE / "examples/fastapi_service.py").read_bytes())
    log = FOLDER / "uvicorn.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=FOLDER, env=ENVIRONMENT, stdout=output, stderr=output
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        if process.wait(SECONDS) not in (0, -15) or "Traceback" in log.read_text():
            sys.exit(f"uvicorn failed:\n{log.read_text()}")


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(10 * SECONDS):
        if running := re.search(r"running on (http://\S+)", log.read_text()):
            return running[1]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"uvicorn did not start:\n{log.read_text()}")


def ask_the_service() -> None:
    """One answer as JSON, one as a stream of events, and a page for the browser."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with service() as address:
        body = json.dumps({"question": "What is the capital of France?"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/answer", body, headers)
        with direct.open(request, timeout=SECONDS) as response:
            answer = json.load(response)
        with direct.open(f"{address}/stream?question=hello", timeout=SECONDS) as response:
            kind = response.headers.get_content_type()
            events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", response.read().decode())
        with direct.open(f"{address}/", timeout=SECONDS) as response:
            page = response.read().decode()
    text = "".join(json.loads(data) for name, data in events if name == "text")
    assert answer == {"answer": "Paris is the capital.", "model": "backup"}, answer
    assert (kind, text) == ("text/event-stream", "Paris is the capital."), (kind, events)
    assert len(events) > 2, events
    assert events[-1] == ("done", '"backup"'), events
    assert "EventSource" in page


def run_the_agent() -> None:
    """Two tools are called, and the answer has its type."""
    shown = python(str(TREE / "examples/tools.py"))
    for expected in ("city='Paris' degrees=21.5 hours=3", "temperature(", "hours_by_train("):
        assert expected in shown, shown


def run_the_batch_job() -> None:
    """The budget ends the first run, and the second continues it."""
    shown = python(str(TREE / "examples/batch_job.py"))
    stopped, *_ = re.findall(r"stopped with (\d+) answers", shown)
    kept, answered, failed = re.findall(r"kept (\d+), answered (\d+), failed (\d+)", shown)[0]
    assert 0 < int(stopped) == int(kept) < int(kept) + int(answered) == 200, shown
    assert failed == "0", shown


for step in (paste_the_readme, ask_the_service, run_the_agent, run_the_batch_job):
    began = time.monotonic()
    step()
    print(f"{step.__name__.replace('_', ' ')}: {time.monotonic() - began:.1f} s")
