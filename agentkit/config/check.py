"""What a configuration that loads may still have wrong, and the worst that a request can cost.

Nothing is sent: what is said follows from the values alone, and no key is shown.
"""

from __future__ import annotations

import difflib
import importlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from agentkit.config.overrides import BETWEEN, ELSEWHERE, OVERRIDABLE, PREFIX, is_override
from agentkit.config.settings import ProviderSettings, Settings
from agentkit.policy.limits.member import key_fingerprint
from agentkit.policy.retry import RetryPolicy
from agentkit.providers.defaults import DEFAULTS

_RETRY: Final = RetryPolicy()
"""The waits between attempts; a configuration sets only how many there are."""

_LISTS: Final = {
    "openai": ("openai.types.shared.chat_model", "ChatModel"),
    "openai-responses": ("openai.types.shared.chat_model", "ChatModel"),
    "anthropic": ("anthropic.types.model", "Model"),
}
"""Where an SDK lists the models it knows."""

_ALIKE: Final = 0.85
"""How similar an unlisted name must be to a listed one to look like a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A remark on a configuration: ``warning``, it may fail; ``note``, good to know."""

    level: Literal["warning", "note"]
    where: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Bound:
    """The most one provider can add to a request: calls, and seconds (None: unlimited)."""

    provider: str
    calls: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Bounds of one request that nothing goes well for.

    Attributes:
        calls: most calls that reach a provider: attempts at each one of the route. Another key is
            another attempt, asking again after an invalid answer too, and no SDK retries by itself.
        seconds: longest time until an answer or an error; None: unlimited. The time for which a
            reader holds an event of a stream comes on top.
        limited_by: what ends it: ``deadline``, ``attempts`` or ``nothing``.
        route: what each provider adds, without regard to the deadline.
    """

    calls: int
    seconds: float | None
    limited_by: Literal["deadline", "attempts", "nothing"]
    route: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found."""

    source: str
    fingerprint: str
    worst_case: WorstCase
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON could hold it."""
        return asdict(self)


def check(settings: Settings, environ: Mapping[str, str] | None = None) -> Report:
    """Examine `settings`; `environ` (default `os.environ`) is searched for misspelt variables."""
    names = os.environ if environ is None else environ
    findings = (
        *_about_time(settings),
        *_about_contexts(settings),
        *_about_shared_keys(settings),
        *_about_models(settings),
        *_about_reach(settings),
        *_about_written_keys(settings),
        *_about_variables(names),
    )
    return Report(settings.source, settings.fingerprint, worst_case(settings), findings)


def worst_case(settings: Settings) -> WorstCase:
    """The longest time and most calls of one request; see `WorstCase`."""
    bounds = tuple(_bound(each, settings.max_retries) for each in settings.route)
    calls = sum(bound.calls for bound in bounds)
    total = 0.0
    for bound in bounds:
        if bound.seconds is None:
            limited: Literal["deadline", "nothing"]
            limited = "nothing" if settings.deadline is None else "deadline"
            return WorstCase(calls, settings.deadline, limited, bounds)
        total += bound.seconds
    if settings.deadline is not None and settings.deadline <= total:
        return WorstCase(calls, settings.deadline, "deadline", bounds)
    return WorstCase(calls, total, "attempts", bounds)


def _bound(provider: ProviderSettings, attempts: int) -> Bound:
    if provider.timeout is None or provider.acquire_timeout is None:
        return Bound(provider.name, attempts, None)
    waits = sum(_longest_wait(retry) for retry in range(1, attempts))
    each = provider.acquire_timeout + provider.timeout
    return Bound(provider.name, attempts, attempts * each + waits)


def _longest_wait(retry: int) -> float:
    """Seconds before the `retry`-th retry, the dice at their worst and a Retry-After heeded."""
    own = _RETRY.backoff(retry, _highest)
    asked = _RETRY.after(_RETRY.max_retry_after, _highest)
    return max(own, asked)


def _highest() -> float:
    return 1.0


def _about_time(settings: Settings) -> Iterator[Finding]:
    if settings.deadline is None:
        if worst_case(settings).seconds is None:
            yield Finding(
                "warning", "deadline", "nothing ends a request: no deadline, and no timeout",
                "set deadline, or timeout and acquire_timeout",
            )  # fmt: skip
        return
    spent = 0.0
    for number, provider in enumerate(settings.route):
        if number and spent >= settings.deadline:
            yield Finding(
                "warning", f"providers.{provider.name}",
                f"a fallback that may get no time: those before it can be silent for {spent:g} s, "
                f"the deadline is {settings.deadline:g} s",
                "lower their timeout, or raise the deadline",
            )  # fmt: skip
        elif provider.timeout is not None and provider.timeout > settings.deadline:
            yield Finding(
                "warning", f"providers.{provider.name}.timeout",
                f"{provider.timeout:g} s never pass: the deadline is {settings.deadline:g} s",
                "lower timeout, or raise the deadline",
            )  # fmt: skip
        spent += provider.timeout or 0.0


def _about_contexts(settings: Settings) -> Iterator[Finding]:
    first = settings.route[0]
    for other in settings.route[1:]:
        small, large = other.context_window, first.context_window
        if small is not None and large is not None and small < large:
            yield Finding(
                "warning", f"providers.{other.name}.context_window",
                f"a smaller context than that of {first.name}: {small:,} of {large:,} tokens",
                "a request that fits only the first fails when that is down: choose a larger model",
            )  # fmt: skip


def _about_shared_keys(settings: Settings) -> Iterator[Finding]:
    users: dict[str, list[str]] = defaultdict(list)
    for provider in settings.providers.values():
        for key in provider.keys:
            if key.secret is not None:
                users[key.secret].append(f"{provider.name} ({key.model})")
    for secret, names in users.items():
        if len(names) > 1:
            yield Finding(
                "warning", "providers",
                f"{' and '.join(names)} share the quota of one key ({key_fingerprint(secret)}), "
                "and each counts its limits alone",
                "give each a key of its own, or divide the limits among them",
            )  # fmt: skip


def _about_models(settings: Settings) -> Iterator[Finding]:
    for provider in settings.providers.values():
        if provider.base_url is not None:
            continue
        for model in dict.fromkeys(key.model for key in provider.keys):
            finding = _about_model(provider, model)
            if finding is not None:
                yield finding


def _about_model(provider: ProviderSettings, model: str) -> Finding | None:
    where = f"providers.{provider.name}.models"
    own = DEFAULTS[provider.kind].model_prefixes if provider.kind in DEFAULTS else ()
    others = [kind for kind, each in DEFAULTS.items() if model.startswith(each.model_prefixes)]
    if own and others and not model.startswith(own):
        remedy = f"names of {provider.kind} begin with {own[0]}…"
        return Finding("warning", where, f"{model} is a name of {others[0]}", remedy)
    listed = _listed(provider.kind)
    if not listed or model in listed:
        return None
    close = difflib.get_close_matches(model, listed, n=1, cutoff=_ALIKE)
    return Finding(
        "note", where, f"{model} is unknown to the installed SDK: new, retired or misspelt",
        f"did you mean {close[0]}?" if close else "see the provider's list of models",
    )  # fmt: skip


def _listed(kind: str) -> tuple[str, ...]:
    """The models that the installed SDK lists; empty when it is not installed or lists none."""
    module, name = _LISTS.get(kind, ("", ""))
    try:
        declared = getattr(importlib.import_module(module), name) if module else None
    except (ImportError, AttributeError):
        return ()
    return tuple(_texts(declared))


def _texts(declared: Any) -> Iterator[str]:
    for each in get_args(declared):
        if isinstance(each, str):
            yield each
        else:
            yield from _texts(each)


def _about_reach(settings: Settings) -> Iterator[Finding]:
    reached = {provider.name for provider in settings.route}
    for name in settings.providers:
        if name not in reached:
            yield Finding(
                "note", f"providers.{name}", "asked only by name: neither default nor fallback",
                "add it to fallback if it should step in",
            )  # fmt: skip


def _about_written_keys(settings: Settings) -> Iterator[Finding]:
    written = [
        key.origin
        for provider in settings.providers.values()
        for key in provider.keys
        if key.origin.startswith(f"{settings.source}:")
    ]
    if not written:
        return
    shared = os.name == "posix" and _others_may_read(settings.source)
    readers = ", and every user of this machine may read it" if shared else ""
    yield Finding(
        "warning" if shared else "note", written[0],
        f"{len(written)} keys stand in the file itself{readers}",
        "write ${VARIABLE} or file:/path instead" + (", or chmod 600 it" if shared else ""),
    )  # fmt: skip


def _others_may_read(source: str) -> bool:
    try:
        return bool(os.stat(source).st_mode & stat.S_IROTH)  # noqa: PTH116 - a pipe has no path
    except OSError:
        return False


def _about_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = [f"{PREFIX}{name}".upper() for name in OVERRIDABLE] + list(ELSEWHERE)
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in ELSEWHERE or is_override(name):
            continue
        head = upper.partition(BETWEEN)[0]
        close = difflib.get_close_matches(head, known, n=1)
        yield Finding(
            "note", name, "is set, and nothing reads it",
            f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}",
        )  # fmt: skip
