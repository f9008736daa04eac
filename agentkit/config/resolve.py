"""File, variables and defaults become `Settings`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

from agentkit.config.overrides import overrides
from agentkit.config.problems import Path, Places, Problem, discreet, refuse
from agentkit.config.schema import File, Limits, Provider, check_shape
from agentkit.config.secrets import Key, Keyring, SecretProblem, directory_of
from agentkit.config.settings import KeySettings, ProviderSettings, Settings
from agentkit.config.yaml_text import parse, read_file
from agentkit.errors import ConfigurationError
from agentkit.policy.limits.estimate import DEFAULT_OUTPUT
from agentkit.policy.limits.window import RateLimits
from agentkit.providers.defaults import DEFAULTS, FROM_KEYS, ProviderDefaults

T = TypeVar("T")

USUAL: Final = "config/llm.yaml"
_ENVIRONMENT: Final = "the environment"
_OF_ANSWERS: Final = ("output_tokens_per_minute", "tokens_per_minute")
"""The limits that an answer counts against."""


def assemble(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Settings:
    """See `load_settings`."""
    file = find(path, environ)
    tree, places = ({}, Places(_ENVIRONMENT, {})) if file is None else _read(file)
    places = _override(tree, places, environ)
    if file is None:
        _add_providers_with_keys(tree, environ)
    shape = check_shape(tree)
    if isinstance(shape, list):
        refuse(shape, places)
    builder = _Builder(shape, places, Keyring(environ, directory_of(file)))
    return builder.settings()


def find(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    """The file to read: the one named, else the usual one where it exists, else None."""
    if path is not None:
        return os.fspath(path)
    named = environ.get("AGENTKIT_CONFIG", "").strip()
    if named:
        return named
    return USUAL if FilePath(USUAL).is_file() else None


def _read(file: str) -> tuple[dict[str, Any], Places]:
    return parse(read_file(file), file)


def _override(tree: dict[str, Any], places: Places, environ: Mapping[str, str]) -> Places:
    lines = dict(places.lines)
    for path, (value, variable) in overrides(environ).items():
        inner = tree
        for part in path[:-1]:
            inner = _inside(inner, str(part), variable)
        inner[str(path[-1])] = value
        lines = {way: place for way, place in lines.items() if way[: len(path)] != path}
        lines[path] = variable
        for length in range(1, len(path)):
            lines.setdefault(path[:length], variable)
    return Places(places.source, lines)


def _inside(tree: dict[str, Any], name: str, variable: str) -> dict[str, Any]:
    """The mapping called `name` in `tree`, made where there is none yet."""
    if tree.get(name) is None:
        tree[name] = {}
    inner = tree[name]
    if not isinstance(inner, dict):
        raise ConfigurationError(
            f"{variable} sets a part of `{discreet(name)}`, which is no mapping in the file",
            hint="change it in the file, or unset the variable",
        )
    return inner


def _add_providers_with_keys(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Without a file: every provider that the environment holds a key of."""
    providers: dict[str, Any] = tree.setdefault("providers", {})
    for kind in FROM_KEYS:
        if any(environ.get(name, "").strip(" ,") for name in DEFAULTS[kind].key_variables):
            providers.setdefault(kind, {})
    if not providers:
        variables = " or ".join(DEFAULTS[kind].key_variables[-1] for kind in FROM_KEYS)
        raise ConfigurationError(
            f"no configuration: AGENTKIT_CONFIG is not set, {USUAL} does not exist, and no key is "
            "in the environment",
            hint=f"set a key ({variables}), or write {USUAL}",
        )


class _Builder:
    """From the checked shape to values; collects problems and refuses them all at once."""

    def __init__(self, shape: File, places: Places, keyring: Keyring) -> None:
        self._shape = shape
        self._places = places
        self._keyring = keyring
        self._problems: list[Problem] = []

    def settings(self) -> Settings:
        shape = self._shape
        providers = {
            name: built
            for name, given in shape.providers.items()
            if (built := self._provider(name, given)) is not None
        }
        first = shape.default_provider or next(iter(shape.providers))
        chain = shape.fallback or []
        self._known(("default_provider",), first)
        for index, name in enumerate(chain):
            self._known(("fallback", index), name)
        if self._problems:
            refuse(self._problems, self._places)
        return Settings(
            providers=providers,
            default_provider=first,
            fallback=tuple(name for name in dict.fromkeys(chain) if name != first),
            deadline=shape.deadline,
            max_retries=shape.max_retries,
            response_cache=None if shape.response_cache == "off" else shape.response_cache,
            source=self._places.source,
        )

    def _known(self, path: Path, name: str) -> None:
        if name not in self._shape.providers:
            self._problem(
                path, f"no provider `{discreet(name)}`", _choice(name, self._shape.providers)
            )

    def _provider(self, name: str, given: Provider) -> ProviderSettings | None:
        path: Path = ("providers", name)
        kind = self._kind(name, given, path)
        if kind is None:
            return None
        defaults = DEFAULTS.get(kind, ProviderDefaults())
        keys = self._keys(given, defaults, name, path)
        models = given.models or self._default_models(defaults, name, path)
        if not keys or not models:
            return None
        self._compare(path, keys, given)
        self._room(path, given)
        if self._lengths(path, keys, given):
            return None
        return ProviderSettings(
            name=name,
            kind=kind,
            keys=tuple(self._zip(keys, models, given)),
            base_url=given.base_url,
            strategy=given.strategy,
            acquire_timeout=given.acquire_timeout,
            idle_timeout=given.idle_timeout,
            max_lifetime=given.max_lifetime,
            timeout=given.timeout,
            first_token_timeout=given.first_token_timeout,
            max_tokens=given.max_tokens or _default_tokens(defaults, given),
            context_window=given.context_window,
        )

    def _kind(self, name: str, given: Provider, path: Path) -> str | None:
        kind = given.type or name
        if kind in DEFAULTS:
            if kind == "compatible" and given.base_url is None:
                self._problem(path, "`base_url` is missing", "say where the server is")
                return None
            return kind
        others = sorted(each.name for each in entry_points(group="agentkit.providers"))
        if kind in others:
            return kind
        if given.type is None and given.base_url is not None:
            return "compatible"
        where = path if given.type is None else (*path, "type")
        known = [*DEFAULTS, *others]
        self._problem(
            where,
            f"unknown provider `{discreet(kind)}`",
            f"{_choice(kind, known)}; for a server that speaks OpenAI's protocol add base_url",
        )
        return None

    def _keys(
        self, given: Provider, defaults: ProviderDefaults, name: str, path: Path
    ) -> list[Key | None]:
        try:
            if given.api_keys is not None:
                return list(self._written(given, (*path, "api_keys")))
            found = self._keyring.from_variables(defaults.key_variables)
        except SecretProblem as problem:
            self._problems.append(problem.problem)
            return []
        if found:
            return list(found)
        if not defaults.key_variables:
            return [None]
        variables = " or ".join(defaults.key_variables)
        self._problem(path, f"{discreet(name)} has no key", f"set {variables}, or list api_keys")
        return []

    def _written(self, given: Provider, path: Path) -> Iterator[Key]:
        texts = given.api_keys or []
        for index, text in enumerate(texts):
            way = (*path, index)
            place = self._places.of(way)
            yield from self._keyring.resolve(
                text.get_secret_value(), way, place, several=len(texts) == 1
            )

    def _default_models(
        self, defaults: ProviderDefaults, name: str, path: Path
    ) -> list[str] | None:
        variable = defaults.model_variable
        chosen = self._keyring.environ.get(variable, "").strip() if variable else ""
        model = chosen or defaults.model
        if model is not None:
            return [model]
        remedy = "add `models:`" + (f", or set {variable}" if variable else "")
        self._problem(path, f"{discreet(name)} has no model", remedy)
        return None

    def _compare(self, path: Path, keys: Sequence[Key | None], given: Provider) -> None:
        seen: dict[str, int] = {}
        for number, key in enumerate(keys, 1):
            if key is None:
                continue
            first = seen.setdefault(key.secret, number)
            if first != number:
                way = path if given.api_keys is None else (*path, "api_keys")
                origin = f" of {key.origin}" if given.api_keys is None else ""
                self._problem(way, f"keys {first} and {number}{origin} are the same", "remove one")

    def _lengths(self, path: Path, keys: Sequence[Key | None], given: Provider) -> bool:
        """Whether a list fits neither the keys nor a list of one."""
        counts = {
            "models": len(given.models or [None]),
            "rate_limits": len(given.rate_limits or [None]),
            "max_concurrency": len(given.max_concurrency),
        }
        wrong = {name: count for name, count in counts.items() if count not in (1, len(keys))}
        if not wrong:
            return False
        said = ", ".join([f"{len(keys)} api_keys", *(f"{n} {name}" for name, n in wrong.items())])
        self._problem(
            path, f"the lists do not match: {said}", "give one entry for all keys, or one for each"
        )
        return True

    def _room(self, path: Path, given: Provider) -> None:
        """Limits that a single answer exceeds would refuse every request."""
        for index, limits in enumerate(given.rate_limits or []):
            for name in _OF_ANSWERS:
                limit = getattr(limits, name)
                if limit is not None and given.max_tokens is not None and limit < given.max_tokens:
                    self._problem(
                        (*path, "rate_limits", index, name),
                        f"{limit} is below max_tokens ({given.max_tokens}): no request would fit",
                        "raise the limit, or lower max_tokens",
                    )

    def _zip(
        self, keys: Sequence[Key | None], models: Sequence[str], given: Provider
    ) -> Iterator[KeySettings]:
        limits = [_limits(each) for each in given.rate_limits or [Limits()]]
        for index, key in enumerate(keys):
            yield KeySettings(
                secret=None if key is None else key.secret,
                model=_for(index, models),
                limits=_for(index, limits),
                max_concurrency=_for(index, given.max_concurrency),
                origin="" if key is None else key.origin,
            )

    def _problem(self, path: Path, text: str, remedy: str) -> None:
        self._problems.append(Problem(path, text, remedy))


def _for(index: int, values: Sequence[T]) -> T:
    return values[index] if len(values) > 1 else values[0]


def _default_tokens(defaults: ProviderDefaults, given: Provider) -> int | None:
    """The table's limit of an answer, lowered to what every key lets through in a minute."""
    own: int = defaults.max_tokens or DEFAULT_OUTPUT
    told = [getattr(each, name) for each in given.rate_limits or [] for name in _OF_ANSWERS]
    least = min([own, *(limit for limit in told if limit is not None)])
    return least if least < own else defaults.max_tokens


def _limits(given: Limits) -> RateLimits:
    return RateLimits(**given.model_dump())


def _choice(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
