"""The address of a store: its URL, checked, and clients for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from agentkit.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    import redis

PATIENCE: Final = 0.1
"""Seconds for which the store may be silent before it counts as lost."""
CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a connection may take. Only the thread of the fleet waits for it."""

_PLAIN: Final = ("valkey", "redis")
_TLS: Final = ("valkeys", "rediss")
_PORTS: Final = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]/@\s]+)(?::([0-9]+))?")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*")
_HINT: Final = (
    "use valkey://host:6379/0, valkeys:// or rediss:// for TLS, unix:///path, "
    "valkey+sentinel://host:26379,host:26379/service/0, valkey+cluster://host:6379,host:6379 or off"
)
_SPECIAL: Final = "its password has special characters: write @ as %40"
_OLDEST_REDIS: Final = 8
"""The oldest release of redis-py that has the options of `_options_of`."""

Kind = Literal["server", "sentinel", "cluster", "unix"]


class _AddressError(ValueError):
    """What is wrong with a URL."""


class Address(NamedTuple):
    """Where a store is, and who connects to it."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    """Host and port of the server, of sentinels, or of some nodes of a cluster."""
    path: str = ""
    """The path of a Unix socket."""
    service: str = ""
    """The name by which sentinels know the server."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: Mapping[str, Any] | None = None
    """Options of TLS; None: without TLS."""
    sentinel: Mapping[str, str] = {}
    """The user and the password for the sentinels, if they need any."""

    def __repr__(self) -> str:
        return f"<Address {self.kind} {self.hosts or self.path!r}>"


def parse_address(url: Any, *, source: str = "fleet") -> Address:
    """The address that the URL of a store stands for. `source` is where the URL was found.

    Raises:
        ConfigurationError: it is not the URL of a store. The message quotes no more of it than the
            scheme and the name of an option, as it may contain a password.
    """
    try:
        return _parse(url)
    except _AddressError as error:
        raise ConfigurationError(
            f"{source} is not the URL of a store: {error}", hint=_HINT
        ) from None


def _parse(url: Any) -> Address:
    base, suffix, rest = _scheme_of(url)
    if base == "unix":
        return _unix(rest)
    kind: Kind = "sentinel" if suffix == "sentinel" else "cluster" if suffix else "server"
    main, _, query = rest.partition("?")
    netloc, _, path = main.partition("/")
    user, at, listed = netloc.rpartition("@")
    username, password = _credentials(user) if at else (None, None)
    if not listed:
        raise _AddressError("it names no host")
    hosts = tuple(_host(each, _PORTS[kind]) for each in listed.split(","))
    if kind == "server" and len(hosts) > 1:
        raise _AddressError(
            "it has several hosts: use the scheme valkey+sentinel or valkey+cluster"
        )
    options = _options(
        query,
        (_TLS_OPTIONS if base in _TLS else ())
        + (_SENTINEL_OPTIONS if kind == "sentinel" else ())
        + (("db",) if kind != "cluster" else ()),
    )
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise _AddressError("it does not name the service that the sentinels watch")
        service, *parts = parts
    if parts and kind == "cluster":
        raise _AddressError("it has a path, and a cluster has no databases: leave the path out")
    if len(parts) > 1:
        raise _AddressError("its path is too long: it may only be the number of a database")
    return Address(
        kind,
        hosts,
        service=service,
        db=_number((parts or [options.get("db", "0")])[0], "the database"),
        username=username,
        password=password,
        tls=_tls(options) if base in _TLS else None,
        sentinel={
            name.removeprefix("sentinel_"): options[name]
            for name in _SENTINEL_OPTIONS
            if name in options
        },
    )


def _scheme_of(url: Any) -> tuple[str, str, str]:
    """The scheme of a URL in two parts, and what follows it."""
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    base, _, suffix = scheme.partition("+")
    if not separator:
        raise _AddressError("it has no scheme" if url else "it is empty")
    if not rest:
        raise _AddressError("it names no host")
    if base not in (*_PLAIN, *_TLS) and scheme != "unix":
        raise _AddressError(f"its scheme{_quoted(scheme)} is unknown")
    if suffix not in ("", "sentinel", "cluster"):
        raise _AddressError("after the + only sentinel and cluster are possible")
    return base, suffix, rest


def connect(url: str, *, source: str = "fleet") -> redis.Redis:
    """A client for the store at `url`. It connects with the first command, and never retries.

    For a cluster, that is the first of its nodes that the URL names. With sentinels, it asks them
    for the server. `source` is that of `parse_address`.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed, or too old.
    """
    address = parse_address(url, source=source)
    _require_redis()
    if address.kind == "sentinel":
        return _watched(address)
    if address.kind == "unix":
        return _client(address, unix_socket_path=address.path)
    return client_of(address, *address.hosts[0])


def client_of(address: Address, host: str, port: int) -> redis.Redis:
    """A client for one server at `address`."""
    return _client(address, host=host, port=port)


def _client(address: Address, **where: Any) -> redis.Redis:
    import redis

    return redis.Redis(**where, **_credentials_of(address), **_options_of(address))


def _watched(address: Address) -> redis.Redis:
    from redis.sentinel import Sentinel

    options = _options_of(address)
    watch: Any = Sentinel(  # type: ignore[no-untyped-call]  # of redis-py
        list(address.hosts),
        sentinel_kwargs={**options, "db": 0, **address.sentinel},
        **options,
        **_credentials_of(address),
    )
    client: redis.Redis = watch.master_for(address.service)
    return client


def _credentials_of(address: Address) -> dict[str, Any]:
    return {"username": address.username, "password": address.password}


def _options_of(address: Address) -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "db": address.db,
        "protocol": 2,
        "driver_info": None,  # else each connection takes two more round trips
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    return options if address.tls is None else {**options, "ssl": True, **address.tls}


def _require_redis() -> None:
    hint = 'install it with pip install "agentkit-llms[fleet]"'
    try:
        import redis
    except ImportError as error:
        raise MissingDependencyError("a fleet needs the package redis", hint=hint) from error
    version = redis.__version__
    if int(version.partition(".")[0]) < _OLDEST_REDIS:
        raise MissingDependencyError(
            f"a fleet needs the package redis {_OLDEST_REDIS} or newer, and {version} is installed",
            hint=hint,
        )


def _unix(rest: str) -> Address:
    main, _, query = rest.partition("?")
    user, at, path = main.partition("/")[0].rpartition("@") if "@" in main else ("", "", "")
    path = main[len(user) + 1 :] if at else main
    if not path.startswith("/"):
        raise _AddressError("the path of its socket must be absolute, as in unix:///path")
    username, password = _credentials(user) if at else (None, None)
    db = _number(_options(query, ("db",)).get("db", "0"), "the database")
    return Address("unix", (), unquote(path), db=db, username=username, password=password)


def _credentials(user: str) -> tuple[str | None, str | None]:
    if "@" in user or "/" in user:
        raise _AddressError(f"{_SPECIAL}, and / as %2F")
    name, _, password = user.partition(":")
    return unquote(name) or None, unquote(password) or None


def _host(text: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise _AddressError(
            "a host of it is not valid, or special characters of its password are not quoted"
        )
    number = port if found[2] is None else int(found[2])
    if not 0 < number < 65_536:
        raise _AddressError("its port is not a number from 1 to 65535")
    return unquote(found[1]).strip("[]"), number


def _options(query: str, known: tuple[str, ...]) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in known:
            if "@" in query:
                raise _AddressError(f"{_SPECIAL}, and ? as %3F")
            listed = f"it may have {', '.join(known)}" if known else "it may have none"
            raise _AddressError(f"it has an unknown option{_quoted(name)}: {listed}")
    return given


def _quoted(text: str) -> str:
    """A word of a URL that cannot be part of its password, with a space before it."""
    return f" {text}" if _WORD.fullmatch(text) else ""


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {name: given[name] for name in _TLS_OPTIONS if name in given}
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise _AddressError(f"{name} is not a file")
    if options.get("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise _AddressError("ssl_cert_reqs must be required, optional or none")
    if "ssl_check_hostname" in options:
        if options["ssl_check_hostname"] not in _BOOLEANS:
            raise _AddressError("ssl_check_hostname must be true or false")
        options["ssl_check_hostname"] = _BOOLEANS[options["ssl_check_hostname"]]
    return options


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise _AddressError(f"{what} is not a number")
    return int(text)
