"""What every adapter over a vendor's SDK has in common."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

from agentkit.errors import LLMError
from agentkit.providers.clients import Clients
from agentkit.providers.requirements import check_base_url, check_key, key_from_environment
from agentkit.types import Request

CONNECT_TIMEOUT = 5.0
"""Seconds to connect; a provider that takes longer is as good as down."""


class SdkProvider(ABC):
    """A model at a provider, through its SDK; see `agentkit.types.Provider`.

    Args:
        model: the provider's own name of the model.
        api_key: default: the provider's variable in the environment, read when first needed.
        base_url: in place of the provider's own address.
        settings: defaults of the model's parameters; a call's own win, None leaves one out.
    """

    provider: ClassVar[str] = "custom"
    end_mark: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    capabilities: frozenset[str] = frozenset({"messages"})
    key_variables: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        **settings: Any,
    ) -> None:
        self.model = model
        self._api_key = api_key
        self._base_url = None if base_url is None else check_base_url(base_url)
        self._settings = settings
        self._clients: Clients[Any, Any] = Clients(self._make_sync, self._make_async)

    def with_key(self, api_key: str) -> Self:
        """The same model and settings with another key."""
        return type(self)(self.model, api_key=api_key, base_url=self._base_url, **self._settings)

    def translate(self, exc: Exception) -> LLMError | None:
        """An `LLMError` for what the general rules would not know; None leaves it to them."""
        return None

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        await self._clients.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model}>"

    @abstractmethod
    def _make_sync(self) -> Any:
        """A new client of the SDK for blocking calls."""

    @abstractmethod
    def _make_async(self) -> Any:
        """A new client of the SDK for one event loop."""

    def _key(self) -> str:
        if self._api_key is not None:
            return check_key(self._api_key.strip(), self.provider)
        return key_from_environment(*self.key_variables, provider=self.provider)

    def _parameters(self, request: Request) -> dict[str, Any]:
        """The call's parameters over the defaults; None ones are left out."""
        merged = {**self._settings, **request.params} if self._settings else dict(request.params)
        if None in merged.values():
            return {name: value for name, value in merged.items() if value is not None}
        return merged


@functools.cache
def parameter_names(method: Callable[..., Any]) -> frozenset[str]:
    """The keyword parameters of an SDK's method."""
    return frozenset(inspect.signature(method).parameters)


def apart(parameters: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """`parameters` with those that the SDK does not know moved into ``extra_body``."""
    foreign = [name for name in parameters if name not in known]
    if not foreign:
        return parameters
    extra = dict(parameters.get("extra_body") or {})
    for name in foreign:
        extra[name] = parameters.pop(name)
    return {**parameters, "extra_body": extra}
