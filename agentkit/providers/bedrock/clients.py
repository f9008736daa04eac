"""The AWS clients: one for each service and Region, shared by all threads, made when first used.

Only the engine retries, so a client sends each request once.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit._fork import fork_safe_lock, on_fork
from agentkit._version import __version__
from agentkit.policy.validation import number, whole_number
from agentkit.providers.bedrock.auth import AuthConfig
from agentkit.providers.bedrock.connection import make_cancellable
from agentkit.providers.bedrock.regions import check_region
from agentkit.providers.bedrock.sessions import open_session
from agentkit.providers.transport.instrumentation import resume_instrumentation
from agentkit.providers.transport.options import ConnectionOptions
from agentkit.types.context import AsyncClosing, Closing

if TYPE_CHECKING:
    from agentkit.providers.bedrock.runtime import HttpRuntime


@dataclass(frozen=True, slots=True)
class Boto3Config:
    """Limits of the connections to AWS.

    Args:
        read_timeout: seconds a socket may be silent (default 600).
        connect_timeout: seconds to connect (default 60).
        max_pool_connections: connections kept open for each Region (default 10; never fewer than
            the requests that may run at once).
        retries_max_attempts: accepted with a warning, without effect: `RetryConfig` configures
            retries, once for all layers.

    Raises:
        ConfigurationError: a value out of range.
    """

    read_timeout: float = 600
    connect_timeout: float = 60
    max_pool_connections: int = 10
    retries_max_attempts: int | None = None

    def __post_init__(self) -> None:
        number("read_timeout", self.read_timeout, above=True)
        number("connect_timeout", self.connect_timeout, above=True)
        whole_number("max_pool_connections", self.max_pool_connections)
        if self.retries_max_attempts is not None:
            whole_number("retries_max_attempts", self.retries_max_attempts, minimum=0)
            warnings.warn(
                "retries_max_attempts has no effect: set RetryConfig(max_attempts=…) instead",
                stacklevel=3,
            )


class Clients(Closing, AsyncClosing):
    """The clients and threads of one `AuthConfig`. Safe to use from many threads, and after a fork.

    The clients of the native transport take endpoint, credentials and options from the SDK's.

    Args:
        auth: the credentials (default: those that the SDK finds).
        boto3_config: limits of the connections.
        concurrency: requests that run at once through the SDK; the size of the thread pool and, at
            least, of the SDK's connection pool of each Region (default 50).
        endpoint_url: an address to use instead of AWS's own, for every service.
        connections: options of the connections of the native transport (default: the
            `connect_timeout` and, if it is more than 100, the `max_pool_connections` of
            `boto3_config`).
        session_factory: makes the session of `auth`; tests pass their own.

    Nothing is read, opened or started before the first client or thread is needed.
    """

    def __init__(
        self,
        auth: AuthConfig | None = None,
        boto3_config: Boto3Config | None = None,
        *,
        concurrency: int = 50,
        endpoint_url: str | None = None,
        connections: ConnectionOptions | None = None,
        session_factory: Callable[[AuthConfig], Any] = open_session,
    ) -> None:
        self.auth = auth or AuthConfig()
        self.concurrency = whole_number("concurrency", concurrency)
        self._limits = boto3_config or Boto3Config()
        self._endpoint_url = endpoint_url
        self._connections = connections
        self._session_factory = session_factory
        self._start()
        on_fork(self._start)

    def _start(self) -> None:
        """Open nothing yet; a forked child must not use its parent's connections."""
        self._lock = fork_safe_lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._native: dict[str, HttpRuntime] = {}
        self._executor: ThreadPoolExecutor | None = None

    def runtime(self, region: str) -> Any:
        """The client that sends requests to models in `region`."""
        return self.get("bedrock-runtime", region)

    def native(self, region: str) -> HttpRuntime:
        """The client that sends requests to models in `region` over the native transport.

        Raises:
            ConfigurationError: `region` is not the code of a Region, or `runtime` has an option
                that only the SDK serves.
            AuthenticationError: the session cannot be made.
        """
        found = self._native.get(region)
        if found is None:
            from agentkit.providers.bedrock.runtime import HttpRuntime

            client = self.runtime(region)
            with self._lock:
                found = self._native.get(region)
                if found is None:
                    found = HttpRuntime(client, lambda: self.executor, self._connections)
                    self._native[region] = found
        return found

    async def anative(self, region: str) -> HttpRuntime:
        """Like `native`, for asyncio: a client is made on a thread."""
        found = self._native.get(region)
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self.executor, self.native, region)
        return found

    def control(self, region: str) -> Any:
        """The client that lists the models and profiles of `region`."""
        return self.get("bedrock", region)

    def get(self, service: str, region: str, *, timeout: float | None = None) -> Any:
        """The client of `service` in `region`.

        Args:
            service: the name that the SDK gives the service.
            region: the code of the Region.
            timeout: seconds; if given, an upper limit of the timeouts of a client made now.

        Raises:
            ConfigurationError: `region` is not the code of a Region.
            MissingDependencyError: boto3 is not installed.
            AuthenticationError: the session cannot be made.
        """
        key = service, check_region(region)
        client = self._clients.get(key)
        if client is not None:
            return client
        with self._lock:  # making sessions and clients is not safe for several threads
            if key not in self._clients:
                if self._session is None:
                    self._session = self._session_factory(self.auth)
                client = self._session.client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    config=self._config(timeout),
                )
                make_cancellable(client)
                _resume_instrumentation_of_http(client)
                self._clients[key] = client
            return self._clients[key]

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads for requests of asyncio callers: at most `concurrency`."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.concurrency, "agentkit-bedrock")
            return self._executor

    def close(self) -> None:
        """Close the connections and end the threads; the next use opens new ones."""
        with self._lock:
            clients = [*self._clients.values(), *self._native.values()]
            executor = self._executor
            self._clients, self._native, self._executor, self._session = {}, {}, None, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        for client in clients:
            client.close()

    async def aclose(self) -> None:
        """Like `close`, waiting for the connections of the running event loop."""
        for client in list(self._native.values()):
            await client.aclose()
        self.close()

    def _config(self, timeout: float | None) -> Any:
        from botocore.config import Config

        limit = timeout or float("inf")
        return Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            read_timeout=min(self._limits.read_timeout, limit),
            connect_timeout=min(self._limits.connect_timeout, limit),
            max_pool_connections=max(self._limits.max_pool_connections, self.concurrency),
            tcp_keepalive=True,
            user_agent_extra=f"agentkit/{__version__}",
        )


def _resume_instrumentation_of_http(client: Any) -> None:
    events = getattr(getattr(client, "meta", None), "events", None)
    if events is not None:  # else a test's own client
        events.register("before-send", resume_instrumentation)
