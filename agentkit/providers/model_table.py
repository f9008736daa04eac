"""A table of the parameters that models are known to accept.

Sources: the model and migration guides of Anthropic, OpenAI, Google and Groq, and the errors 400
that their users report. A model that the table does not know gets every parameter. Where the table
is wrong, `register_model(..., params=...)` overrides it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

AS_OF: Final = "2026-11-21"
"""When this table was last compared with its sources."""

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The values of ``reasoning_effort``, in ascending order."""
THINKING_TOKENS: Final = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 32768,
    "max": 32768,
}
"""The thinking budget of each effort, as in Google's OpenAI-compatible API."""

_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?v?(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_GPT = re.compile(r"(?:^|[/:])gpt-(\d+)(?:\.(\d+))?")
_O_SERIES = re.compile(r"(?:^|[/:])(?:o\d|codex-|chat-latest)")
_WITHOUT_REASONING = re.compile(r"llama|gemma|kimi|mistral")
_GEMINI = re.compile(r"gemini-(\d+)(?:\.(\d+))?")

Version = tuple[int, int]
_NEWEST: Final = (99, 0)


def nearest_effort(effort: str, accepted: Sequence[str]) -> str:
    """The accepted effort that is nearest to `effort`; of two, the lower one.

    Only ``none`` becomes ``none``. ``default``, which Groq has beside `EFFORTS`, is as near as
    ``medium``.
    """
    if effort != "none":
        accepted = [each for each in accepted if each != "none"] or accepted
    wanted = EFFORTS.index(effort)
    rank = {each: position for position, each in enumerate(EFFORTS)}
    return min(accepted, key=lambda each: abs(rank.get(each, rank["medium"]) - wanted))


class Claude(NamedTuple):
    """A model of Anthropic.

    Attributes:
        version: such as (4, 5); the newest for a Claude whose name has none; None for other models,
            of which nothing is known.
        always_thinks: whether its thinking cannot be disabled.
    """

    version: Version | None
    always_thinks: bool = False

    @property
    def takes_sampling(self) -> bool:
        """Whether it accepts ``temperature``, ``top_p`` and ``top_k``: up to 4.6."""
        return self.version is None or self.version < (4, 7)

    @property
    def takes_one_sampler(self) -> bool:
        """Whether it refuses ``temperature`` together with ``top_p``: 4 and later."""
        return self.version is not None and self.version >= (4, 0)

    @property
    def has_structured_outputs(self) -> bool:
        """Whether it takes a JSON schema as ``output_config.format``: 4.1 and later."""
        return self.version is None or self.version >= (4, 1)

    @property
    def takes_prefill(self) -> bool:
        """Whether it continues the beginning of an answer: up to 4.5."""
        return self.version is not None and self.version < (4, 6)

    @property
    def takes_thinking_budget(self) -> bool:
        """Whether its thinking is set by a number of tokens: 3.7 to 4.5."""
        return self.version is not None and (3, 7) <= self.version < (4, 6)

    @property
    def efforts(self) -> tuple[str, ...]:
        """What it accepts as ``output_config.effort``; empty: it has none."""
        if self.version is None or self.version < (4, 6):
            return ()
        xhigh = ("xhigh",) if self.version >= (4, 7) else ()
        return ("low", "medium", "high", *xhigh, "max")


def claude(model: str) -> Claude:
    """What is known about a model of Anthropic."""
    match = _CLAUDE.search(model)
    always = "fable" in model or "mythos" in model
    if match is not None:
        return Claude((int(match[1]), int(match[2] or 0)), always)
    return Claude(_NEWEST if "claude" in model else None, always)


class OpenAIModel(NamedTuple):
    """A model of OpenAI.

    Attributes:
        efforts: what it accepts as ``reasoning_effort``; empty: it does not reason.
        default_effort: how it reasons by default.
        tools_need_responses: whether chat completions refuse tools while it reasons.
    """

    efforts: tuple[str, ...] = ()
    default_effort: str = "none"
    tools_need_responses: bool = False


def openai_model(model: str) -> OpenAIModel | None:
    """What is known about a model of OpenAI; None: nothing."""
    if _O_SERIES.search(model):
        return OpenAIModel(("low", "medium", "high"), "medium")
    match = _GPT.search(model)
    if match is None:
        return OpenAIModel() if "chatgpt-4" in model else None
    version = (int(match[1]), int(match[2] or 0))
    if version < (5, 0) or "gpt-5-chat" in model:
        return OpenAIModel()
    return _gpt_5(model, version)


def _gpt_5(model: str, version: Version) -> OpenAIModel:
    """A model of the families from GPT-5 on, all of which reason."""
    tools_need_responses = version >= (5, 2)
    xhigh = ("xhigh",) if version >= (5, 2) else ()
    if "-chat" in model:
        return OpenAIModel(("medium",), "medium", tools_need_responses)
    if "-pro" in model:
        return OpenAIModel(("medium", "high", "xhigh") if xhigh else ("high",), "high", True)
    if "-codex" in model:
        return OpenAIModel(("low", "medium", "high", *xhigh), "medium", tools_need_responses)
    if version == (5, 0):
        return OpenAIModel(("minimal", "low", "medium", "high"), "medium")
    without_none = "-astra" in model or model.endswith("gpt-6.1-sol")
    efforts = (
        *(() if without_none else ("none",)),
        *("low", "medium", "high"),
        *xhigh,
        *(("max",) if version >= (6, 0) else ()),
    )
    return OpenAIModel(efforts, "none" if version < (5, 5) else "medium", tools_need_responses)


class Gemini(NamedTuple):
    """A model of Google.

    Attributes:
        levels: what it accepts as ``thinkingLevel``; empty: it has none.
        takes_thinking_budget: whether its thinking is set by a number of tokens.
        least_budget: the smallest one.
        takes_json_with_tools: whether it can call tools and answer in JSON.
    """

    levels: tuple[str, ...] = ()
    takes_thinking_budget: bool = False
    least_budget: int = 0
    takes_json_with_tools: bool = True


def gemini(model: str) -> Gemini:
    """What is known about a model of Google."""
    match = _GEMINI.search(model)
    if match is None:
        return Gemini()
    version = (int(match[1]), int(match[2] or 0))
    pro = "pro" in model
    if version < (3, 0):
        return Gemini((), version >= (2, 5), 128 if pro else 0, takes_json_with_tools=False)
    if pro:
        return Gemini(("low", "high") if version < (3, 1) else ("low", "medium", "high"))
    return Gemini((*(("minimal",) if version < (3, 8) else ()), "low", "medium", "high"))


def groq_efforts(model: str) -> tuple[str, ...]:
    """What a model at Groq accepts as ``reasoning_effort``; empty: it does not reason."""
    if "gpt-oss" in model:
        return ("low", "medium", "high")
    if "qwen3.8" in model:
        return ("none", "low", "medium", "high")
    if "qwen3" in model:
        return ("none", "default")
    return () if _WITHOUT_REASONING.search(model) else ("none", "low", "medium", "high")
