"""Registered models by name, the active one, the fallback chain, and the routes they make."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

from agentkit._fork import fork_safe_lock
from agentkit.errors import ConfigurationError, UnknownModelError
from agentkit.policy.route import Missing, Route, Stop, Target

log = logging.getLogger("agentkit.registry")


class Registry:
    """Copy-on-write tables: readers never lock, and a route is built once a change."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._lock = fork_safe_lock()
        self._targets: MappingProxyType[str, Target] = MappingProxyType({})
        self._active: str | None = None
        self._chain: tuple[str, ...] = ()
        self._default: Route | None = None
        self._routes: dict[tuple[str, ...], Route] = {}

    @property
    def targets(self) -> MappingProxyType[str, Target]:
        """The registered targets, in registration order."""
        return self._targets

    @property
    def active(self) -> str | None:
        """Name of the active model, or None."""
        return self._active

    @property
    def chain(self) -> tuple[str, ...]:
        """The fallback chain, duplicates removed."""
        return self._chain

    def add(self, target: Target, *, replace: bool) -> Target | None:
        """Register `target`; the one it replaces, if any.

        Raises:
            ConfigurationError: the name is taken and `replace` is false.
        """
        with self._lock:
            if target.name in self._targets and not replace:
                raise ConfigurationError(
                    f"a model named {target.name!r} is registered already",
                    hint="choose another name, or pass replace=True",
                )
            old = self._targets.get(target.name)
            self._changed({**self._targets, target.name: target})
        return old

    def remove(self, name: str) -> Target:
        """Unregister `name`; it stays in the chain and is skipped there.

        Raises:
            UnknownModelError: it is not registered.
        """
        target = self.get(name)
        with self._lock:
            self._changed({key: each for key, each in self._targets.items() if key != name})
            if self._active == name:
                self._active = None
        return target

    def get(self, name: str) -> Target:
        """The target called `name`.

        Raises:
            UnknownModelError: it is not registered; the message suggests close names.
        """
        given: Any = name
        target = self._targets.get(given) if isinstance(given, str) else None
        if target is None:
            raise self._unknown(name)
        return target

    def set_active(self, name: str) -> None:
        """Ask `name` first. Raises `UnknownModelError`."""
        self.get(name)
        with self._lock:
            self._active = name
            self._changed(dict(self._targets))

    def set_chain(self, names: Iterable[str]) -> None:
        """Fall back along `names`. A name that is not registered is warned about and kept.

        Raises:
            ConfigurationError: empty, or not a list of names.
            UnknownModelError: strict, and a name is not registered.
        """
        chain = self._names(names, "the fallback chain")
        for name in chain:
            if name not in self._targets:
                if self._strict:
                    raise self._unknown(name)
                log.warning("fallback chain: %r is not registered and will be skipped", name)
        with self._lock:
            self._chain = chain
            self._changed(dict(self._targets))

    def route(self, model: str | Sequence[str] | None) -> Route:
        """The route of one request: the default one, or just the model(s) named.

        Raises:
            UnknownModelError: a named model is not registered.
            ConfigurationError: no model is active, and no chain is set.
        """
        if model is None:
            return self._default or self._build_default()
        names = (model,) if isinstance(model, str) else self._names(model, "model")
        route = self._routes.get(names)
        if route is None:
            route = Route(tuple(self.get(name) for name in names))
            with self._lock:
                self._routes[names] = route
        return route

    def _build_default(self) -> Route:
        with self._lock:
            first = [] if self._active is None else [self._active]
            names = list(dict.fromkeys([*first, *self._chain]))
            if not names and len(self._targets) == 1:
                names = list(self._targets)
            if not names:
                hint = "call set_active_model(name) or set_fallback_chain(names)"
                if not self._targets:
                    raise ConfigurationError("no model is registered", hint="call register_model()")
                raise ConfigurationError("no model is active", hint=hint)
            stops: list[Stop] = [self._targets.get(name) or Missing(name) for name in names]
            self._default = Route(tuple(stops))
            return self._default

    def _changed(self, targets: dict[str, Target]) -> None:
        self._targets = MappingProxyType(targets)
        self._default = None
        self._routes = {}

    def _names(self, names: Any, what: str) -> tuple[str, ...]:
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConfigurationError(f"{what} must be a list of names, got {names!r}")
        chain = tuple(dict.fromkeys(names))
        wrong = [name for name in chain if not isinstance(name, str) or not name]
        if wrong:
            raise ConfigurationError(f"{what} holds {wrong[0]!r}, which is not a model name")
        if not chain:
            raise ConfigurationError(f"{what} is empty", hint="name at least one model")
        return chain

    def _unknown(self, name: object) -> UnknownModelError:
        close = difflib.get_close_matches(str(name), self._targets, n=1)
        known = ", ".join(list(self._targets)[:10]) or "none"
        hint = f"did you mean {close[0]!r}?" if close else f"registered models: {known}"
        return UnknownModelError(f"unknown model {name!r}", hint=hint)
