"""The contenders and their environments: `.bench/<name>`, created once and used by every run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contender:
    """One library to measure, with the packages of its environment."""

    name: str
    title: str
    packages: tuple[str, ...]
    only: tuple[str, ...] = ()  # the works in which it is measured; empty for all

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / ".bench" / self.name / "bin" / "python"

    def prepare(self) -> None:
        """Create the environment unless it exists."""
        ready = self.python.parent.parent / "ready"
        wanted = "\n".join(self.packages)
        if ready.exists() and ready.read_text() == wanted:
            return
        print(f"preparing the environment of {self.title}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", self.python.parent.parent], check=True)
        if self.packages:
            subprocess.run(
                [self.python, "-m", "pip", "install", "--quiet", *self.packages],
                check=True,
                cwd=ROOT,
            )
        ready.write_text(wanted)


CONTENDERS = (
    Contender("agentkit", "agentkit", ("--editable", ".[openai,bedrock]", "opentelemetry-sdk")),
    # Its response cache and its OpenTelemetry need the proxy's packages.
    Contender("litellm", "LiteLLM Router", ("litellm[proxy]", "diskcache", "opentelemetry-sdk")),
    Contender(
        "pydantic_ai",
        "pydantic-ai FallbackModel",
        ("pydantic-ai-slim[openai]", "opentelemetry-sdk"),
    ),
    Contender("langchain", "LangChain retry + fallbacks", ("langchain-core",)),
    Contender("aisuite", "aisuite", ("aisuite",), ("weight",)),
    Contender("bare", "the bare callable", (), ("overhead", "throughput")),
)
