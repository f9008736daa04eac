"""While the network is forbidden, nothing leaves this machine, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import openai
import pytest

from agentkit.testing import NetworkForbiddenError, WireServer, forbid_network
from tests.testing.wire.sdks import ASKED, causes

METHODS = ("connect", "connect_ex", "sendto", "sendmsg")
LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")


def as_it_is() -> list[object]:
    """The functions that are guarded, and whether the class has methods of its own."""
    own = [vars(socket.socket).get(name) for name in METHODS]
    return [*own, *(getattr(socket, name) for name in LOOKUPS)]


@pytest.fixture(autouse=True)
def _all_is_as_before(network_allowed: None) -> Iterator[None]:
    before = as_it_is()
    yield
    assert as_it_is() == before


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        yield sock


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


FAR = ("192.0.2.1", 443)

WAYS_OUT: list[tuple[str, Callable[[socket.socket, socket.socket], Any]]] = [
    ("connect", lambda tcp, udp: tcp.connect(FAR)),
    ("connect_ex", lambda tcp, udp: tcp.connect_ex(FAR)),
    ("connect", lambda tcp, udp: tcp.connect((b"192.0.2.1", 443))),
    ("connect", lambda tcp, udp: udp.connect(FAR)),
    ("sendto", lambda tcp, udp: udp.sendto(b"", FAR)),
    ("sendto", lambda tcp, udp: udp.sendto(b"", 0, FAR)),
    ("sendmsg", lambda tcp, udp: udp.sendmsg([b""], [], 0, FAR)),
    ("gethostbyaddr", lambda tcp, udp: socket.gethostbyaddr("192.0.2.1")),
    ("getnameinfo", lambda tcp, udp: socket.getnameinfo(FAR, 0)),
]


@pytest.mark.parametrize(("operation", "leave"), WAYS_OUT)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_no_way_leads_to_another_machine(
    tcp: socket.socket,
    udp: socket.socket,
    allow_loopback: bool,
    operation: str,
    leave: Callable[[socket.socket, socket.socket], Any],
) -> None:
    with (
        forbid_network(allow_loopback=allow_loopback),
        pytest.raises(NetworkForbiddenError, match=f"^{operation} to 192.0.2.1") as raised,
    ):
        leave(tcp, udp)
    assert raised.value.host == "192.0.2.1"
    assert raised.value.port == (None if operation.startswith("get") else 443)


@pytest.mark.parametrize(
    "look_up",
    [
        lambda name: socket.getaddrinfo(name, 443),
        lambda name: socket.getaddrinfo(host=name, port=443),
        lambda name: socket.getaddrinfo(name.encode(), 443),
        lambda name: socket.create_connection((name, 443)),
        lambda name: asyncio.run(asyncio.open_connection(name, 443)),
    ],
)
@pytest.mark.parametrize("name", ["api.example.com", "localhost.example.com", "intranet"])
def test_no_foreign_name_is_looked_up(look_up: Callable[[str], Any], name: str) -> None:
    with forbid_network(), pytest.raises(NetworkForbiddenError) as raised:
        look_up(name)
    assert (raised.value.host, raised.value.port) == (name, 443)
    assert str(raised.value) == f"getaddrinfo to {name} port 443 while the network is forbidden"


@pytest.mark.parametrize("look_up", [socket.gethostbyname.__name__, "gethostbyname_ex"])
def test_no_foreign_name_is_looked_up_without_a_port(look_up: str) -> None:
    with forbid_network(), pytest.raises(NetworkForbiddenError) as raised:
        getattr(socket, look_up)("api.example.com")
    assert (raised.value.host, raised.value.port) == ("api.example.com", None)


def test_a_name_handed_straight_to_connect_is_not_looked_up_first(tcp: socket.socket) -> None:
    with forbid_network(), pytest.raises(NetworkForbiddenError, match=r"^connect to api\.example"):
        tcp.connect(("api.example.com", 443))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", ""])
def test_this_machine_stays_in_reach(host: str) -> None:
    with forbid_network(), socket.create_server(("", 0)) as server:
        place = host, server.getsockname()[1]
        with socket.socket() as sock:
            sock.connect(place)
        assert socket.getaddrinfo(host or None, place[1])


@pytest.mark.parametrize(("host", "local"), [("::1", True), ("::", True), ("2001:db8::1", False)])
def test_ipv6_is_judged_alike(host: str, local: bool) -> None:
    with socket.socket(socket.AF_INET6) as sock, forbid_network():
        try:
            sock.connect((host, 9))
        except NetworkForbiddenError:
            assert not local
        except OSError:
            assert local, "nothing listens there, but the attempt was allowed"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("10.0.0.1", False),
        ("127.0.0.1.example.com", False),
        ("<broadcast>", False),
    ],
)
def test_one_machine_has_many_names(host: str, local: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_INET6) as sock:
        patch.setattr(socket.socket, "connect", lambda *_: None, raising=False)
        with forbid_network(), nullcontext() if local else pytest.raises(NetworkForbiddenError):
            sock.connect((host, 9))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_can_be_forbidden_too(tcp: socket.socket, host: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        forbid_network(allow_loopback=False),
        pytest.raises(NetworkForbiddenError),
    ):
        tcp.connect((host, server.getsockname()[1]))


def test_sockets_that_need_no_network_stay_allowed() -> None:
    with forbid_network(allow_loopback=False):
        left, right = socket.socketpair()
        with left, right:
            left.sendall(b"x")
            assert right.recv(1) == b"x"
        assert asyncio.run(asyncio.sleep(0, "a loop runs")) == "a loop runs"


def test_a_nested_use_can_only_be_stricter(tcp: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        with forbid_network(allow_loopback=False):
            with forbid_network(), pytest.raises(NetworkForbiddenError):
                tcp.connect(place)
            with pytest.raises(NetworkForbiddenError):
                tcp.connect(place)
        with forbid_network():
            with forbid_network(allow_loopback=False), pytest.raises(NetworkForbiddenError):
                tcp.connect(place)
            tcp.connect(place)


def test_one_guard_may_be_entered_again_within_itself(tcp: socket.socket) -> None:
    guard = forbid_network()
    with guard:
        with guard:
            pass
        with pytest.raises(NetworkForbiddenError):
            tcp.connect(FAR)


def test_it_counts_for_every_thread_until_the_last_one_leaves() -> None:
    before = as_it_is()
    together = threading.Barrier(16)
    refused = []

    def use() -> None:
        for _ in range(20):
            together.wait(10)
            with forbid_network():
                try:
                    socket.getaddrinfo("api.example.com", 443)
                except NetworkForbiddenError:
                    refused.append(True)

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 16 * 20
    assert as_it_is() == before


def test_another_tools_wrapper_survives() -> None:
    """What was put over the guard stays when the guard leaves, and lets everything pass."""
    with pytest.MonkeyPatch.context() as tool:
        tool.setattr(socket, "getaddrinfo", lambda host, *_: f"{host} looked up")
        with forbid_network():
            guarded = socket.getaddrinfo

            def theirs(*args: Any, **kwargs: Any) -> Any:
                return guarded(*args, **kwargs)

            tool.setattr(socket, "getaddrinfo", theirs)
        assert socket.getaddrinfo is theirs
        assert theirs("api.example.com", 443) == "api.example.com looked up"


def test_it_decorates_functions_and_keeps_their_signature() -> None:
    @forbid_network()
    def call(name: str, *, port: int = 443) -> object:
        return socket.getaddrinfo(name, port)

    assert list(inspect.signature(call).parameters) == ["name", "port"]
    assert call("localhost")
    with pytest.raises(NetworkForbiddenError):
        call("api.example.com")


def test_it_decorates_coroutine_functions_while_they_run() -> None:
    @forbid_network()
    async def call(name: str) -> object:
        await asyncio.sleep(0)
        return socket.getaddrinfo(name, 443)

    assert inspect.iscoroutinefunction(call)
    assert asyncio.run(call("localhost"))
    with pytest.raises(NetworkForbiddenError):
        asyncio.run(call("api.example.com"))


def test_a_generator_cannot_be_decorated() -> None:
    def generate() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="inside it"):
        forbid_network()(generate)


def test_an_exception_lifts_it_too() -> None:
    before = as_it_is()
    with pytest.raises(KeyError), forbid_network():
        raise KeyError
    assert as_it_is() == before


def test_the_error_survives_a_process_boundary() -> None:
    error = NetworkForbiddenError("connect", "api.example.com", 443)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.host, copy.port) == (str(error), "api.example.com", 443)
    assert isinstance(copy, RuntimeError)


@pytest.mark.wire
def test_the_local_server_and_an_sdk_work_under_it() -> None:
    with (
        forbid_network(),
        WireServer(reply="Paris.") as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any") as client,
    ):
        assert client.chat.completions.create(**ASKED).choices[0].message.content == "Paris."


def test_an_sdk_that_wraps_the_error_keeps_it_as_the_cause() -> None:
    with (
        forbid_network(),
        openai.OpenAI(api_key="any", max_retries=0) as client,
        pytest.raises((openai.APIConnectionError, NetworkForbiddenError)) as raised,
    ):
        client.chat.completions.create(**ASKED)
    assert any(isinstance(each, NetworkForbiddenError) for each in causes(raised.value))
