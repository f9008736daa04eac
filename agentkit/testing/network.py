"""A lock on the network, for tests that must not leave this machine."""

from __future__ import annotations

import functools
import inspect
import ipaddress
import socket
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, TypeAlias, TypeVar, cast

from agentkit._fork import fork_safe_lock

F = TypeVar("F", bound=Callable[..., Any])
Place: TypeAlias = tuple[str | None, int | str | None]
Owner: TypeAlias = ModuleType | type[socket.socket]

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_ABSENT = object()

_lock = fork_safe_lock()
_active: list[forbid_network] = []
_installed: list[tuple[Owner, str, object, object]] = []  # where, name, what was there, ours


class NetworkForbiddenError(RuntimeError):
    """Something tried to leave this machine while `forbid_network` was in force.

    An SDK may wrap it in its own connection error; then it is the ``__cause__``.

    Attributes:
        host: the name or address, as given.
        port: the port or service, None where the operation has none.
    """

    def __init__(self, operation: str, host: str, port: int | str | None) -> None:
        super().__init__(operation, host, port)
        self.operation = operation
        self.host = host
        self.port = port

    def __str__(self) -> str:
        where = self.host if self.port is None else f"{self.host} port {self.port}"
        return f"{self.operation} to {where} while the network is forbidden"


class forbid_network:  # noqa: N801  reads as a verb, like contextlib's managers
    """Refuse connections and datagrams to other machines, and look-ups of their names.

    A context manager, and a decorator of functions and coroutine functions. In force for the
    whole process, all threads included, from entering to leaving; nested or overlapping uses
    add up, and the strictest counts. As a fixture::

        @pytest.fixture(autouse=True)
        def offline():
            with forbid_network():
                yield

    Unix sockets stay allowed, and so do connections that were open before. It guards Python's
    `socket` module: compiled code that makes its own system calls is out of its reach.

    Args:
        allow_loopback: whether addresses of this machine (127.0.0.0/8, ::1, ``localhost``) may
            be reached. The name ``localhost`` and numeric addresses can be looked up in any case.

    Raises:
        NetworkForbiddenError: where the forbidden operation was tried.
    """

    def __init__(self, *, allow_loopback: bool = True) -> None:
        self.allow_loopback = allow_loopback

    def __enter__(self) -> None:
        with _lock:
            if not _active:
                _install()
            _active.append(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _lock:
            _active.remove(self)
            if not _active:
                _restore()

    def __call__(self, function: F) -> F:
        """Decorate `function`: the network is forbidden while it runs.

        Raises:
            TypeError: `function` is a generator; it would run outside.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            msg = "a generator runs after it returned: use `with forbid_network():` inside it"
            raise TypeError(msg)

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def aguarded(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return cast("F", aguarded if inspect.iscoroutinefunction(function) else guarded)


def _install() -> None:
    for owner, name, refuse in _GUARDS:
        if hasattr(owner, name):
            guard = _guard(getattr(owner, name), name, refuse)
            _installed.append((owner, name, vars(owner).get(name, _ABSENT), guard))
            setattr(owner, name, guard)


def _restore() -> None:
    while _installed:
        owner, name, before, guard = _installed.pop()
        if vars(owner).get(name) is not guard:
            continue  # someone wrapped the guard meanwhile; on its own it lets everything pass
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _guard(
    original: Callable[..., Any], name: str, refuse: Callable[..., Place | None]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def guard(*args: Any, **kwargs: Any) -> Any:
        if _active:
            place = refuse(*args, **kwargs)
            if place is not None:
                raise NetworkForbiddenError(name, str(place[0]), place[1])
        return original(*args, **kwargs)

    return guard


def _refused_connection(sock: socket.socket, address: Any) -> Place | None:
    """The address, if it may not be reached."""
    if sock.family not in _INTERNET or not isinstance(address, tuple):
        return None
    host, port = _text(address[0]), address[1]
    loopback = all(each.allow_loopback for each in tuple(_active))
    return None if loopback and _is_local(host) else (host, port)


def _refused_datagram(sock: socket.socket, _data: Any, *rest: Any) -> Place | None:
    """The address of a `sendto`, which comes last, if it may not be reached."""
    return _refused_connection(sock, rest[-1]) if rest else None


def _refused_message(
    sock: socket.socket, _buffers: Any, _ancillary: Any = (), _flags: int = 0, address: Any = None
) -> Place | None:
    """The address of a `sendmsg`, if it has one that may not be reached."""
    return _refused_connection(sock, address)


def _refused_name(host: Any, port: Any = None, *_: Any, **__: Any) -> Place | None:
    """The name, if only another machine could resolve it."""
    name = _text(host)
    return None if _is_local(name) or _numeric(name) else (name, port)


def _refused_reverse(address: Any, *_: Any) -> Place | None:
    """The address, if only another machine could name it."""
    host = _text(address[0] if isinstance(address, tuple) else address)
    return None if _is_local(host) else (host, None)


_GUARDS: tuple[tuple[Owner, str, Callable[..., Place | None]], ...] = (
    (socket.socket, "connect", _refused_connection),
    (socket.socket, "connect_ex", _refused_connection),
    (socket.socket, "sendto", _refused_datagram),
    (socket.socket, "sendmsg", _refused_message),
    (socket, "getaddrinfo", _refused_name),
    (socket, "gethostbyname", _refused_name),
    (socket, "gethostbyname_ex", _refused_name),
    (socket, "gethostbyaddr", _refused_reverse),
    (socket, "getnameinfo", _refused_reverse),
)


def _text(host: Any) -> str | None:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host


def _numeric(host: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_local(host: str | None) -> bool:
    """Whether `host` is this machine; connecting to no or an unspecified address reaches it."""
    if not host:
        return True
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _numeric(host)
    return address is not None and (address.is_loopback or address.is_unspecified)
