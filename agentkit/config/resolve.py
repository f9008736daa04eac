"""Turns a validated file into `Settings`: finds keys, applies defaults, pairs lists with keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from agentkit.config.problems import Locations, Path, Problem, raise_problems, redact
from agentkit.config.schema import (
    File,
    KeySettings,
    Limits,
    Provider,
    ProviderOptions,
    ProviderSettings,
    Settings,
)
from agentkit.config.secrets import Key, KeyProblem, Keyring
from agentkit.errors import ConfigurationError
from agentkit.policy.limits import DEFAULT_OUTPUT, RateLimits
from agentkit.policy.price import price_list
from agentkit.providers.registry import PROVIDERS, ProviderInfo, provider_info, provider_names
from agentkit.state.address import parse_address

T = TypeVar("T")

_OUTPUT_LIMITS: Final = ("output_tokens_per_minute", "tokens_per_minute")
"""The limits that the tokens of an answer count against."""


def resolve(file: File, locations: Locations, keyring: Keyring) -> Settings:
    """The settings that `file` describes.

    Raises:
        ConfigurationError: something is missing or contradictory; lists every problem.
    """
    resolver = _Resolver(file, locations, keyring)
    settings = resolver.settings()
    if settings is None:
        raise_problems(resolver.problems, locations)
    return settings


def find_problems(file: File, locations: Locations, keyring: Keyring) -> list[Problem]:
    """What is missing or contradictory in `file`."""
    resolver = _Resolver(file, locations, keyring)
    resolver.settings()
    return resolver.problems


class _Resolver:
    """Resolves one file, and collects the problems on the way."""

    def __init__(self, file: File, locations: Locations, keyring: Keyring) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._locations = locations
        self._keyring = keyring

    def settings(self) -> Settings | None:
        """The settings, or None if there are problems."""
        file = self._file
        resolved = (self._provider(name, given) for name, given in file.providers.items())
        providers = {each.name: each for each in resolved if each is not None}
        first = file.default_provider or next(iter(file.providers))
        fallback = file.fallback or []
        fleet = self._fleet(file.fleet)
        self._check_name(("default_provider",), first)
        for index, name in enumerate(fallback):
            self._check_name(("fallback", index), name)
        if self.problems:
            return None
        return Settings(
            providers=providers,
            default_provider=first,
            fallback=tuple(name for name in dict.fromkeys(fallback) if name != first),
            deadline=file.deadline,
            max_retries=file.max_retries,
            response_cache=None if file.response_cache == "off" else file.response_cache,
            fleet=fleet,
            budget=file.budget,
            on_fleet_loss=file.on_fleet_loss,
            prices=price_list({name: each.model_dump() for name, each in file.prices.items()}),
            source=self._locations.source,
        )

    def _fleet(self, given: str | None) -> str | None:
        if given is None or given == "off":
            return given
        try:
            url = self._keyring.expand(given, ("fleet",))
        except KeyProblem as problem:
            self.problems.append(problem.problem)
            return None
        try:
            parse_address(url)
        except ConfigurationError as error:
            self._add_problem(("fleet",), error.message.removeprefix("fleet "), error.hint or "")
        return url

    def _check_name(self, path: Path, name: str) -> None:
        if name not in self._file.providers:
            suggestion = _suggest(name, self._file.providers)
            self._add_problem(path, f"no provider `{redact(name)}`", suggestion)

    def _provider(self, name: str, given: Provider) -> ProviderSettings | None:
        path: Path = ("providers", name)
        kind = self._kind(name, given, path)
        if kind is None:
            return None
        defaults = provider_info(kind)
        keys = self._keys(given, defaults, name, path)
        models = given.models or self._default_models(defaults, name, path)
        if not keys or not models:
            return None
        self._check_duplicates(path, keys, given)
        self._check_output_limits(path, given)
        if not self._check_lengths(path, keys, given):
            return None
        options = {option: getattr(given, option) for option in ProviderOptions.model_fields}
        options["max_tokens"] = given.max_tokens or _default_max_tokens(defaults, given)
        if given.transport is None and kind in PROVIDERS:
            options["transport"] = self._file.transport
        if options["transport"] == "native":
            options["connections"] = given.connections or self._file.connections
        elif given.connections is not None and kind in PROVIDERS:
            self._add_problem(
                (*path, "connections"),
                "they are for the native transport, and this provider uses the SDK",
                "add `transport: native`, or remove them",
            )
        return ProviderSettings(
            name=name, kind=kind, keys=tuple(_pair(keys, models, given)), **options
        )

    def _kind(self, name: str, given: Provider, path: Path) -> str | None:
        kind = given.type or name
        if kind in PROVIDERS:
            if kind == "compatible" and given.base_url is None:
                self._add_problem(path, "`base_url` is missing", "add the URL of the server")
                return None
            return kind
        names = provider_names()
        if kind in names:
            return kind
        if given.type is None and given.base_url is not None:
            return "compatible"
        suggestion = _suggest(kind, names)
        self._add_problem(
            path if given.type is None else (*path, "type"),
            f"unknown provider `{redact(kind)}`",
            f"{suggestion}; for a server with an OpenAI-compatible API, add base_url",
        )
        return None

    def _keys(
        self, given: Provider, defaults: ProviderInfo, name: str, path: Path
    ) -> list[Key | None]:
        """The keys; [None] if the provider needs none, and [] after a problem."""
        try:
            if given.api_keys is not None:
                return list(self._listed_keys(given.api_keys, (*path, "api_keys")))
            found = self._keyring.from_variables(defaults)
        except KeyProblem as problem:
            self.problems.append(problem.problem)
            return []
        if found:
            return list(found)
        if not defaults.key_variables:
            return [None]
        variables = " or ".join(defaults.all_key_variables)
        self._add_problem(path, f"{redact(name)} has no key", f"set {variables}, or add api_keys")
        return []

    def _listed_keys(self, listed: Sequence[Any], path: Path) -> Iterator[Key]:
        for index, text in enumerate(listed):
            item = (*path, index)
            yield from self._keyring.resolve(
                text.get_secret_value(), item, self._locations.of(item), several=len(listed) == 1
            )

    def _default_models(self, defaults: ProviderInfo, name: str, path: Path) -> list[str] | None:
        variable = defaults.model_variable
        from_variable = self._keyring.environ.get(variable, "").strip() if variable else ""
        model = from_variable or defaults.model
        if model is not None:
            return [model]
        remedy = "add `models:`" + (f", or set {variable}" if variable else "")
        self._add_problem(path, f"{redact(name)} has no model", remedy)
        return None

    def _check_duplicates(self, path: Path, keys: Sequence[Key | None], given: Provider) -> None:
        seen: dict[str, int] = {}
        for number, key in enumerate(keys, 1):
            if key is None:
                continue
            first = seen.setdefault(key.secret, number)
            if first != number:
                place = path if given.api_keys is None else (*path, "api_keys")
                origin = f" of {key.origin}" if given.api_keys is None else ""
                self._add_problem(
                    place, f"keys {first} and {number}{origin} are the same", "remove one"
                )

    def _check_lengths(self, path: Path, keys: Sequence[Key | None], given: Provider) -> bool:
        """Whether each list has one item, or one for each key."""
        counts = {
            "models": len(given.models or [None]),
            "rate_limits": len(given.rate_limits or [None]),
            "max_concurrency": len(given.max_concurrency),
        }
        wrong = {name: count for name, count in counts.items() if count not in (1, len(keys))}
        if wrong:
            lengths = ", ".join(f"{count} {name}" for name, count in wrong.items())
            self._add_problem(
                path,
                f"the lists do not match: {len(keys)} api_keys, {lengths}",
                "give one item for all keys, or one for each key",
            )
        return not wrong

    def _check_output_limits(self, path: Path, given: Provider) -> None:
        """A limit below `max_tokens` would reject every request."""
        for index, limits in enumerate(given.rate_limits or []):
            for name in _OUTPUT_LIMITS:
                limit = getattr(limits, name)
                if limit is not None and given.max_tokens is not None and limit < given.max_tokens:
                    self._add_problem(
                        (*path, "rate_limits", index, name),
                        f"{limit} is below max_tokens ({given.max_tokens}): no request would fit",
                        "raise the limit, or lower max_tokens",
                    )

    def _add_problem(self, path: Path, text: str, remedy: str) -> None:
        self.problems.append(Problem(path, text, remedy))


def _pair(
    keys: Sequence[Key | None], models: Sequence[str], given: Provider
) -> Iterator[KeySettings]:
    """Each key with its model, limits and concurrency."""
    limits = [RateLimits(**each.model_dump()) for each in given.rate_limits or [Limits()]]
    for index, key in enumerate(keys):
        yield KeySettings(
            secret=None if key is None else key.secret,
            model=_item(models, index),
            limits=_item(limits, index),
            max_concurrency=_item(given.max_concurrency, index),
            origin="" if key is None else key.origin,
        )


def _item(values: Sequence[T], index: int) -> T:
    return values[index] if len(values) > 1 else values[0]


def _default_max_tokens(defaults: ProviderInfo, given: Provider) -> int | None:
    """The provider's default limit of an answer, lowered to what each key may use in a minute."""
    default: int = defaults.max_tokens or DEFAULT_OUTPUT
    limits = [getattr(each, name) for each in given.rate_limits or [] for name in _OUTPUT_LIMITS]
    lowest = min([default, *(limit for limit in limits if limit is not None)])
    return lowest if lowest < default else defaults.max_tokens


def _suggest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
