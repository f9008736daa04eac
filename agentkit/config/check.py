"""Risks of a valid configuration, and the most calls and time that a request can take.

Everything follows from the values alone: nothing is sent, and no key is shown.
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

from agentkit.config.overrides import FIELDS, NOT_OVERRIDES, PREFIX, SEPARATOR, is_override
from agentkit.config.schema import ProviderSettings, Settings
from agentkit.policy.limits import key_fingerprint
from agentkit.policy.retry import RetryPolicy
from agentkit.providers.registry import PROVIDERS, provider_info

_RETRY: Final = RetryPolicy()
"""The delays between attempts; a configuration only sets the number of attempts."""

_SDK_MODELS: Final = {
    "openai": ("openai.types.shared.chat_model", "ChatModel"),
    "openai-responses": ("openai.types.shared.chat_model", "ChatModel"),
    "anthropic": ("anthropic.types.model", "Model"),
}
"""The type with which an SDK lists the models that it knows."""

_SIMILAR: Final = 0.85
"""How similar an unlisted name must be to a listed one to be reported as a probable typo."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A remark on a configuration: a ``warning`` (requests may fail) or a ``note``."""

    level: Literal["warning", "note"]
    where: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ProviderBound:
    """The most that one provider can add to a request: calls, and seconds (None: unlimited)."""

    provider: str
    calls: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Upper bounds for one request.

    Attributes:
        calls: the most calls to providers: the attempts at each provider of the route. A call with
            another key and a repair of an invalid answer count as attempts; SDKs do not retry.
        seconds: the longest time until an answer or an error; None: unlimited. The time for which
            the consumer of a stream holds an event comes on top.
        limited_by: what ends the request: ``deadline``, ``attempts`` or ``nothing``.
        route: what each provider adds, ignoring the deadline.
    """

    calls: int
    seconds: float | None
    limited_by: Literal["deadline", "attempts", "nothing"]
    route: tuple[ProviderBound, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `check`."""

    source: str
    fingerprint: str
    worst_case: WorstCase
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def check(settings: Settings, environ: Mapping[str, str] | None = None) -> Report:
    """Examine `settings`; `environ` (default `os.environ`) is searched for misspelled variables."""
    environ = os.environ if environ is None else environ
    findings = (
        *_check_times(settings),
        *_check_context_windows(settings),
        *_check_shared_keys(settings),
        *_check_models(settings),
        *_check_prices(settings),
        *_check_route(settings),
        *_check_plain_keys(settings),
        *_check_variables(environ),
    )
    return Report(settings.source, settings.fingerprint, worst_case(settings), findings)


def worst_case(settings: Settings) -> WorstCase:
    """The most calls and time that one request can take; see `WorstCase`."""
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


def _bound(provider: ProviderSettings, attempts: int) -> ProviderBound:
    if provider.timeout is None or provider.acquire_timeout is None:
        return ProviderBound(provider.name, attempts, None)
    delays = sum(_longest_delay(retry) for retry in range(1, attempts))
    each = provider.acquire_timeout + provider.timeout
    return ProviderBound(provider.name, attempts, attempts * each + delays)


def _longest_delay(retry: int) -> float:
    """The most seconds before the `retry`-th retry, after a back-off or a Retry-After."""
    back_off = _RETRY.backoff(retry, _highest)
    retry_after = _RETRY.after(_RETRY.max_retry_after, _highest)
    return max(back_off, retry_after)


def _highest() -> float:
    return 1.0


def _check_times(settings: Settings) -> Iterator[Finding]:
    if settings.deadline is None:
        if worst_case(settings).seconds is None:
            yield Finding(
                "warning",
                "deadline",
                "nothing ends a request: there is no deadline and no timeout",
                "set deadline, or timeout and acquire_timeout",
            )
        return
    spent = 0.0
    for index, provider in enumerate(settings.route):
        if index and spent >= settings.deadline:
            yield Finding(
                "warning",
                f"providers.{provider.name}",
                f"this fallback may get no time: the providers before it can take {spent:g} s, "
                f"and the deadline is {settings.deadline:g} s",
                "lower their timeout, or raise the deadline",
            )
        elif provider.timeout is not None and provider.timeout > settings.deadline:
            yield Finding(
                "warning",
                f"providers.{provider.name}.timeout",
                f"{provider.timeout:g} s is longer than the deadline of {settings.deadline:g} s",
                "lower timeout, or raise the deadline",
            )
        spent += provider.timeout or 0.0


def _check_context_windows(settings: Settings) -> Iterator[Finding]:
    first = settings.route[0]
    for other in settings.route[1:]:
        small, large = other.context_window, first.context_window
        if small is not None and large is not None and small < large:
            yield Finding(
                "warning",
                f"providers.{other.name}.context_window",
                f"smaller than the context window of {first.name}: {small:,} of {large:,} tokens",
                f"a long request fails when {first.name} is down: choose a larger model",
            )


def _check_prices(settings: Settings) -> Iterator[Finding]:
    models = {key.model for provider in settings.providers.values() for key in provider.keys}
    for name in settings.prices:
        if name not in models:
            close = difflib.get_close_matches(name, models, n=1)
            yield Finding(
                "note",
                f"prices.{name}",
                "no provider uses a model of this name",
                f"did you mean `{close[0]}`?" if close else "remove it, or correct the name",
            )


def _check_shared_keys(settings: Settings) -> Iterator[Finding]:
    users: dict[str, list[str]] = defaultdict(list)
    for provider in settings.providers.values():
        for key in provider.keys:
            if key.secret is not None:
                users[key.secret].append(f"{provider.name} ({key.model})")
    for secret, names in users.items():
        if len(names) > 1:
            yield Finding(
                "warning",
                "providers",
                f"{' and '.join(names)} share the quota of one key ({key_fingerprint(secret)}), "
                "but each counts its limits separately",
                "give each its own key, or divide the limits among them",
            )


def _check_models(settings: Settings) -> Iterator[Finding]:
    for provider in settings.providers.values():
        if provider.base_url is not None:
            continue
        for model in dict.fromkeys(key.model for key in provider.keys):
            finding = _check_model(provider, model)
            if finding is not None:
                yield finding


def _check_model(provider: ProviderSettings, model: str) -> Finding | None:
    where = f"providers.{provider.name}.models"
    own = provider_info(provider.kind).model_prefixes
    others = [kind for kind, each in PROVIDERS.items() if model.startswith(each.model_prefixes)]
    if own and others and not model.startswith(own):
        remedy = f"model names of {provider.kind} start with {own[0]}"
        return Finding("warning", where, f"{model} is a model name of {others[0]}", remedy)
    listed = models_of_sdk(provider.kind)
    if not listed or model in listed:
        return None
    close = difflib.get_close_matches(model, listed, n=1, cutoff=_SIMILAR)
    return Finding(
        "note",
        where,
        f"the installed SDK does not list {model}: it is new, retired or misspelled",
        f"did you mean {close[0]}?" if close else "see the provider's list of models",
    )


def models_of_sdk(kind: str) -> tuple[str, ...]:
    """The models that the installed SDK lists; empty if there is no SDK or no list."""
    module, name = _SDK_MODELS.get(kind, ("", ""))
    try:
        declared = getattr(importlib.import_module(module), name) if module else None
    except (ImportError, AttributeError):
        return ()
    return tuple(_strings(declared))


def _strings(declared: Any) -> Iterator[str]:
    """The strings in a (nested) ``Literal`` or ``Union``."""
    for each in get_args(declared):
        if isinstance(each, str):
            yield each
        else:
            yield from _strings(each)


def _check_route(settings: Settings) -> Iterator[Finding]:
    route = {provider.name for provider in settings.route}
    for name in settings.providers:
        if name not in route:
            yield Finding(
                "note",
                f"providers.{name}",
                "called only by name: it is neither the default nor a fallback",
                "add it to fallback if it should be one",
            )


def _check_plain_keys(settings: Settings) -> Iterator[Finding]:
    in_file = [
        key.origin
        for provider in settings.providers.values()
        for key in provider.keys
        if key.origin.startswith(f"{settings.source}:")
    ]
    if not in_file:
        return
    readable = os.name == "posix" and _others_can_read(settings.source)
    count = "1 key" if len(in_file) == 1 else f"{len(in_file)} keys"
    yield Finding(
        "warning" if readable else "note",
        in_file[0],
        f"the file contains {count} in plain text"
        + (", and every user of this machine can read it" if readable else ""),
        "use ${VARIABLE} or file:/path" + (", or chmod 600 the file" if readable else ""),
    )


def _others_can_read(source: str) -> bool:
    try:
        return bool(os.stat(source).st_mode & stat.S_IROTH)  # noqa: PTH116 - a pipe has no path
    except OSError:
        return False


def _check_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = [f"{PREFIX}{name}".upper() for name in FIELDS] + list(NOT_OVERRIDES)
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in NOT_OVERRIDES or is_override(name):
            continue
        close = difflib.get_close_matches(upper.partition(SEPARATOR)[0], known, n=1)
        yield Finding(
            "note",
            name,
            "agentkit does not read this variable",
            f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}",
        )
