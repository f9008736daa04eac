"""Signatures are those of botocore, for every path, body and kind of credentials."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from agentkit.providers.bedrock.signature import signature_like

ENDPOINTS = (
    "https://bedrock-runtime.us-east-1.amazonaws.com",
    "http://127.0.0.1:8080",
    "https://gateway.example/aws/bedrock",
    "http://[::1]:9",
)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


def of_botocore(
    endpoint: str, path: str, body: bytes, credentials: Any, **more: str
) -> dict[str, str]:
    """The headers with which botocore sends a request."""
    headers = {"Content-Type": "application/json", "User-Agent": "any", **more}
    request = AWSRequest(method="POST", url=endpoint + path, headers=headers, data=body)
    SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(request)
    return dict(request.headers.items())


def path_to(model: str) -> str:
    return f"/model/{quote(model, safe='-._~')}/converse"


@given(
    endpoint=st.sampled_from(ENDPOINTS),
    model=st.from_regex(r"[a-z]{2}[a-zA-Z0-9.:/_-]*", fullmatch=True),
    body=st.binary(min_size=1),
    secret=printable,
    token=st.none() | printable,
)
def test_a_signature_is_that_of_botocore(
    endpoint: str, model: str, body: bytes, secret: str, token: str | None
) -> None:
    first = Credentials("AKIDEXAMPLE", "not-a-real-secret").get_frozen_credentials()
    probe = of_botocore(endpoint, path_to("m"), b"{}", first)
    signature = signature_like(endpoint, path_to("m"), b"{}", probe, first)
    assert signature is not None
    path, other = path_to(model), Credentials("AKIDOTHER", secret, token).get_frozen_credentials()
    expected = of_botocore(endpoint, path, body, other)
    made = signature.headers(path, body, other, at=expected["X-Amz-Date"])
    assert {**expected, **made} == expected
    assert set(made) == set(expected) - {"Content-Type", "User-Agent"}


def test_another_day_has_another_key() -> None:
    frozen = Credentials("AKIDEXAMPLE", "not-a-real-secret").get_frozen_credentials()
    probe = of_botocore(ENDPOINTS[0], path_to("m"), b"{}", frozen)
    kept = signature_like(ENDPOINTS[0], path_to("m"), b"{}", probe, frozen)
    fresh = signature_like(ENDPOINTS[0], path_to("m"), b"{}", probe, frozen)
    assert kept is not None
    assert fresh is not None
    kept.headers("/p", b"{}", frozen, at="20261121T235959Z")
    last = kept.headers("/p", b"{}", frozen, at="20261122T000000Z")
    assert last == fresh.headers("/p", b"{}", frozen, at="20261122T000000Z")


@pytest.mark.parametrize(
    "change",
    [
        {"Authorization": "Bearer key"},
        {"Authorization": ""},
        {"X-Amz-Date": "20200101T000000Z"},
        {"Content-Type": "text/plain"},
    ],
    ids=str,
)
def test_what_botocore_signs_otherwise_is_left_to_botocore(change: dict[str, str]) -> None:
    frozen = Credentials("AKIDEXAMPLE", "not-a-real-secret").get_frozen_credentials()
    probe = {**of_botocore(ENDPOINTS[0], path_to("m"), b"{}", frozen), **change}
    assert signature_like(ENDPOINTS[0], path_to("m"), b"{}", probe, frozen) is None
    more = of_botocore(ENDPOINTS[0], path_to("m"), b"{}", frozen, **{"X-Team": "a"})
    assert signature_like(ENDPOINTS[0], path_to("m"), b"{}", more, frozen) is None
