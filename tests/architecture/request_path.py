"""How many functions and files of the package one prompt passes.

The prompt goes to `LLMManager.complete` of a default manager, misses the response cache and is sent
by the openai SDK to a `WireServer`. An earlier prompt has warmed everything that is built once. A
function counts once, however often it is entered. Comprehensions and lambdas belong to the function
around them and a constructor to the function that calls it; functions of the server and of other
libraries do not count.

This file is a script, so that the measurement runs in an interpreter of its own and on another
tree: ``PYTHONPATH=other python tests/architecture/request_path.py other`` prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

CONSTRUCTORS = {"__init__", "__new__", "__post_init__"}


class RequestPath(NamedTuple):
    """Where one prompt passed, by file, line and name."""

    functions: list[str]
    """Every function entered before the SDK."""
    stack: list[str]
    """The functions on the stack when the SDK is entered, the outermost first."""
    files: list[str]
    """Every file touched by the prompt, on its way back, too."""


def request_path(root: Path) -> RequestPath:
    """Measure the package under `root` in a new interpreter."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PYTHONPATH": str(root), "XDG_CACHE_HOME": home}
        run = subprocess.run(
            [sys.executable, __file__, str(root)],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        raise RuntimeError(run.stderr)
    return RequestPath(*json.loads(run.stdout))


class _Profile:
    """Records entered functions while `active`, on every thread that starts after `install`."""

    def __init__(self, package: Path) -> None:
        self.prefix = f"{package}{os.sep}"
        self.left_out = f"{package / 'testing'}{os.sep}"
        self.active = False
        self.reached_sdk = False
        self.before_sdk: dict[CodeType, None] = {}
        self.stack: list[CodeType] = []
        self.all: dict[CodeType, None] = {}

    def install(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if not self.active or event != "call":
            return
        code = frame.f_code
        if f"{os.sep}openai{os.sep}" in code.co_filename and "site-packages" in code.co_filename:
            self.stack = self.stack or [*self.callers(frame)][::-1]
            self.reached_sdk = True
        elif code.co_filename.startswith(self.prefix) and not self.is_left_out(code):
            self.all[code] = None
            if not self.reached_sdk:
                self.before_sdk[code] = None

    def callers(self, frame: FrameType) -> Iterator[CodeType]:
        caller = frame.f_back
        while caller is not None:
            code = caller.f_code
            if code.co_filename.startswith(self.prefix) and not self.is_left_out(code):
                yield code
            caller = caller.f_back

    def is_left_out(self, code: CodeType) -> bool:
        belongs_to_caller = code.co_name.startswith("<") or code.co_name in CONSTRUCTORS
        return belongs_to_caller or code.co_filename.startswith(self.left_out)


def measure(root: Path) -> RequestPath:
    """Ask one prompt of a default manager under a profile."""
    profile = _Profile(root / "agentkit")
    profile.install()

    from agentkit import LLMManager
    from agentkit.testing import WireServer

    with WireServer(reply="Paris.") as server, LLMManager() as llm:
        os.environ |= {"OPENAI_API_KEY": "made-up", "OPENAI_BASE_URL": server.openai_url}
        llm.register_model("gpt", "openai:gpt-5")
        llm.complete("Capital of Italy?")
        profile.active = True
        llm.complete("Capital of France?")
        profile.active = False

    def name(code: CodeType) -> str:
        place = Path(code.co_filename).relative_to(root)
        return f"{place}:{code.co_firstlineno}: {code.co_qualname}"

    files = {str(Path(code.co_filename).relative_to(root)) for code in profile.all}
    functions, stack = (
        [name(code) for code in codes] for codes in (profile.before_sdk, profile.stack)
    )
    return RequestPath(functions, stack, sorted(files))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]).resolve())))  # noqa: T201
