"""The URL of a store is checked, and stands for what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.state.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("valkey://host", Address("server", (("host", 6379),))),
        ("redis://host:1/2", Address("server", (("host", 1),), db=2)),
        ("redis://host?db=3", Address("server", (("host", 6379),), db=3)),
        (
            "valkey://me:p%40ss@[::1]:7/",
            Address("server", (("::1", 7),), username="me", password="p@ss"),
        ),
        ("redis://:pass@host", Address("server", (("host", 6379),), password="pass")),
        ("rediss://host", Address("server", (("host", 6379),), tls={})),
        (
            "valkeys://host?ssl_check_hostname=false&ssl_cert_reqs=none",
            Address(
                "server",
                (("host", 6379),),
                tls={"ssl_check_hostname": False, "ssl_cert_reqs": "none"},
            ),
        ),
        ("unix:///run/s?db=1", Address("unix", (), "/run/s", db=1)),
        ("unix://me:pass@/run/s", Address("unix", (), "/run/s", username="me", password="pass")),
        (
            "valkey+cluster://:pass@a:1,b:2",
            Address("cluster", (("a", 1), ("b", 2)), password="pass"),
        ),
        (
            "rediss+sentinel://a,b:2/main/5?sentinel_password=watch",
            Address(
                "sentinel",
                (("a", 26379), ("b", 2)),
                service="main",
                db=5,
                tls={},
                sentinel={"password": "watch"},
            ),
        ),
    ],
)
def test_a_url_names_the_store(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "it is empty"),
        ("hunter2", "it has no scheme"),
        ("valkey://", "it names no host"),
        ("valkey:///hunter2", "it names no host"),
        ("http://:hunter2@host", "its scheme http is unknown"),
        ("valkey+raft://:hunter2@host", "only sentinel and cluster"),
        ("valkey://:hunter2@host:port", "a host of it"),
        ("valkey://:hunter2@host:0", "its port"),
        ("valkey://:hunter2@host:65536", "its port"),
        ("valkey://:hunter2@host/main", "the database is not a number"),
        ("valkey://:hunter2@host/1/2", "its path is too long"),
        ("valkey://:hunter2@a,b", "several hosts: use the scheme valkey+sentinel or"),
        ("valkey://me:hunt@er2@host", "write @ as %40"),
        ("valkey://:hunter2@", "it names no host"),
        ("valkey://:hunter2@host?socket_timeout=5", "option socket_timeout: it may have db"),
        ("valkey://:hunter2@host?ssl_ca_certs=/ca.pem", "option ssl_ca_certs: it may have db"),
        ("valkey://host?hunter2=5@host", "write @ as %40, and ? as %3F"),
        ("valkeys://:hunter2@host?ssl_ca_certs=/nowhere/hunter2", "ssl_ca_certs is not a file"),
        ("valkeys://:hunter2@host?ssl_cert_reqs=maybe", "required, optional or none"),
        ("valkeys://:hunter2@host?ssl_check_hostname=maybe", "true or false"),
        ("valkey+sentinel://:hunter2@host", "does not name the service"),
        ("valkey+sentinel://:hunter2@host/main/x", "the database is not a number"),
        ("valkey+cluster://:hunter2@host/1", "a cluster has no databases"),
        ("unix://hunter2/s", "the path of its socket must be absolute"),
    ],
)
def test_the_error_names_what_is_wrong_with_a_url_without_quoting_it(
    url: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    assert problem in caught.value.message
    assert "hunter2" not in str(caught.value)


@given(st.text() | st.from_regex(r"(valkey|rediss|unix)(\+[a-z]+)?://[!-~]*", fullmatch=True))
def test_any_text_is_a_store_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except ConfigurationError:
        return
    assert found.hosts or found.path


def test_the_files_of_tls_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    found: Any = parse_address(f"valkeys://host?ssl_ca_certs={file}").tls
    assert found == {"ssl_ca_certs": str(file)}
