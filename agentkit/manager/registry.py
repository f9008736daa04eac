"""The models of a manager by name, the active one, the fallback chain, and the routes."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from agentkit._fork import fork_safe_lock
from agentkit.errors import ConfigurationError, UnknownModelError
from agentkit.manager.targets import aclose_target, close_target, close_with_last_call
from agentkit.policy.route import Missing, Route, Stop
from agentkit.policy.target import Target


class ModelRegistry:
    """The models of a manager, and the routes they form.

    The tables are copied on write, so that readers never lock. A route is built once per change.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._lock = fork_safe_lock()
        self._targets: MappingProxyType[str, Target] = MappingProxyType({})
        self._active: str | None = None
        self._chain: tuple[str, ...] = ()
        self._default: Route | None = None
        self._routes: dict[tuple[str, ...], Route] = {}
        self._retired: WeakSet[Target] = WeakSet()

    @property
    def targets(self) -> MappingProxyType[str, Target]:
        """The registered targets, in order of registration."""
        return self._targets

    @property
    def active(self) -> str | None:
        """The name of the active model, or None."""
        return self._active

    @property
    def chain(self) -> tuple[str, ...]:
        """The fallback chain without duplicates."""
        return self._chain

    def register(self, target: Target, *, replace: bool = False) -> None:
        """Register `target`, and retire the one that it replaces.

        Raises:
            ConfigurationError: the name is taken and `replace` is false.
        """
        with self._lock:
            if target.name in self._targets and not replace:
                raise ConfigurationError(
                    f"a model named {target.name!r} is already registered",
                    hint="choose another name, or pass replace=True",
                )
            old = self._targets.get(target.name)
            self._changed({**self._targets, target.name: target})
            if old is not None:
                self._retire(old)

    def unregister(self, name: str) -> None:
        """Retire the model called `name`. The name stays in the chain, and is skipped there.

        Raises:
            UnknownModelError: it is not registered.
        """
        with self._lock:
            target = self.get(name)
            if self._active == name:
                self._active = None
            self._changed({key: each for key, each in self._targets.items() if key != name})
            self._retire(target)

    def get(self, name: str) -> Target:
        """The target called `name`.

        Raises:
            UnknownModelError: it is not registered. The message suggests similar names.
        """
        given: Any = name
        target = self._targets.get(given) if isinstance(given, str) else None
        if target is None:
            raise self._unknown(name)
        return target

    def named(self, model: str | Sequence[str] | None) -> list[Target]:
        """The targets with these names; None: all. Raises `UnknownModelError`."""
        if model is None:
            return list(self._targets.values())
        return [self.get(name) for name in ([model] if isinstance(model, str) else model)]

    def set_active(self, name: str) -> None:
        """Make `name` the first model of every request. Raises `UnknownModelError`."""
        with self._lock:
            self.get(name)
            self._active = name
            self._changed(dict(self._targets))

    def set_chain(self, names: Iterable[str], *, stacklevel: int = 2) -> None:
        """Set the fallback chain. A name that is not registered is kept, with a warning.

        `stacklevel` says whose line the warning shows, as in `warnings.warn`.

        Raises:
            ConfigurationError: `names` is empty, or not a list of names.
            UnknownModelError: the registry is strict, and a name is not registered.
        """
        chain = self._names(names, "the fallback chain")
        for name in chain:
            if name not in self._targets:
                unknown = self._unknown(name)
                if self._strict:
                    raise unknown
                warnings.warn(
                    f"fallback chain: {name!r} is not registered and will be skipped; "
                    f"{unknown.hint}",
                    stacklevel=stacklevel,
                )
        with self._lock:
            self._chain = chain
            self._changed(dict(self._targets))

    def route(self, model: str | Sequence[str] | None) -> Route:
        """The route to the named models, or the default route for None.

        Raises:
            UnknownModelError: a named model is not registered.
            ConfigurationError: no model is active, and no chain is set.
        """
        if model is None:
            return self._default or self._build_default()
        names = (model,) if isinstance(model, str) else self._names(model, "model")
        route = self._routes.get(names)
        if route is None:
            with self._lock:  # or a change in between would leave a route of replaced targets
                route = Route(tuple(self.get(name) for name in names))
                self._routes[names] = route
        return route

    def breaker_states(self) -> dict[str, tuple[str, float]]:
        """The state and the failure rate of each circuit breaker, by name."""
        return {
            breaker.name: (breaker.state, breaker.statistics().failure_rate)
            for target in self._targets.values()
            if (breaker := target.breaker) is not None
        }

    def close(self) -> None:
        """Close the connections that the manager made for the models."""
        for target in (*self._targets.values(), *self._retired):
            close_target(target)

    async def aclose(self) -> None:
        """Like `close`, for the connections of the running event loop."""
        for target in (*self._targets.values(), *self._retired):
            await aclose_target(target)

    def _retire(self, target: Target) -> None:
        """`target` gets no new calls. It is closed with its last one, at the latest by `close`."""
        self._retired.add(target)
        close_with_last_call(target)

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
            raise ConfigurationError(
                f"{what} must be a list of names, got {names!r}",
                hint='pass a list such as ["name"]',
            )
        chain = tuple(dict.fromkeys(names))
        wrong = [name for name in chain if not isinstance(name, str) or not name]
        if wrong:
            raise ConfigurationError(
                f"{what} holds {wrong[0]!r}, which is not a model name",
                hint="pass the names under which the models are registered",
            )
        if not chain:
            raise ConfigurationError(f"{what} is empty", hint="name at least one model")
        return chain

    def _unknown(self, name: object) -> UnknownModelError:
        close = difflib.get_close_matches(str(name), self._targets, n=1)
        known = ", ".join(list(self._targets)[:10]) or "none"
        hint = f"did you mean {close[0]!r}?" if close else f"registered models: {known}"
        return UnknownModelError(f"unknown model {name!r}", hint=hint)
