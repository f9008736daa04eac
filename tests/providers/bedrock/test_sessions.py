"""Each kind of authentication finds its credentials, and only there."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ProfileNotFound
from botocore.stub import Stubber

from agentkit.bedrock import AuthConfig, AuthenticationType, LLMManager
from agentkit.errors import AuthenticationError, MissingDependencyError
from agentkit.providers.bedrock.sessions import explain, open_session
from agentkit.testing import WireServer

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ROLE = "arn:aws:iam::123456789012:role/BedrockRole"


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration of this machine, and no metadata service."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[named]\naws_access_key_id = of-profile\naws_secret_access_key = s\n")
    config.write_text("[profile named]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def key_of(session: Any) -> str:
    return str(session.get_credentials().get_frozen_credentials().access_key)


@pytest.mark.promise("S0-07", "S1-73")
def test_a_profile_gives_its_keys_and_region() -> None:
    session = open_session(AuthConfig(AuthenticationType.PROFILE, profile_name="named"))
    assert key_of(session) == "of-profile"
    assert session.region_name == "eu-west-1"


def test_an_unknown_profile_is_reported_with_the_remedy() -> None:
    with pytest.raises(AuthenticationError, match="absent") as caught:
        open_session(AuthConfig(AuthenticationType.PROFILE, profile_name="absent"))
    assert "list-profiles" in (caught.value.hint or "")


@pytest.mark.promise("S0-09", "S0-11", "S1-73")
def test_given_keys_are_used_in_the_given_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    config = AuthConfig(
        "credentials", access_key="k", secret_key="s", session_token="t", region="us-west-2"
    )
    session = open_session(config)
    assert tuple(session.get_credentials().get_frozen_credentials())[:3] == ("k", "s", "t")
    assert session.region_name == "us-west-2"


@pytest.mark.promise("S0-08")
def test_the_environment_alone_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AuthConfig(AuthenticationType.ENVIRONMENT)
    monkeypatch.setenv("AWS_PROFILE", "named")
    with pytest.raises(AuthenticationError, match="AWS_ACCESS_KEY_ID is not set"):
        open_session(config)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    with pytest.raises(AuthenticationError, match="environment"):
        open_session(config)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert key_of(open_session(config)) == "of-environment"


def test_an_api_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "made-up")
    session = open_session(AuthConfig(AuthenticationType.ENVIRONMENT, region="us-east-1"))
    assert session.client("bedrock-runtime") is not None


PLACES = ("environment", "credentials", "config", "container")
"""Where credentials are looked for without a configuration, in this order."""


@pytest.fixture
def place(own_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A function that puts credentials into one of `PLACES`, named after it."""
    keys = "aws_access_key_id = of-{0}\naws_secret_access_key = s\n"

    class Container(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            until = (dt.datetime.now(tz=dt.UTC) + dt.timedelta(hours=1)).isoformat()
            body = {"AccessKeyId": "of-container", "SecretAccessKey": "s", "Token": "t"}
            text = json.dumps({**body, "Expiration": until}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Container)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def put(name: str) -> None:
        if name == "environment":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        elif name == "container":
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        else:
            (own_files / name).write_text(f"[default]\n{keys.format(name)}")

    yield put
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.wire
@pytest.mark.promise("S0-12", "S1-73")
@pytest.mark.parametrize("auth_config", [None, AuthConfig()], ids=["none", "auto"])
@pytest.mark.parametrize("first", PLACES)
def test_credentials_are_found_in_the_order_of_the_sdks_chain(
    first: str,
    auth_config: AuthConfig | None,
    place: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for later in PLACES[PLACES.index(first) :]:
        place(later)
    with WireServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.bedrock_url)
        with LLMManager(["Claude 3 Haiku"], ["us-east-1"], auth_config=auth_config) as llm:
            llm.converse([{"role": "user", "content": [{"text": "hi"}]}])
        (request,) = server.requests
    assert f"Credential=of-{first}/" in request.headers["authorization"]


def test_the_machines_role_looks_at_no_keys_of_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    session = open_session(AuthConfig(AuthenticationType.IAM_ROLE))
    assert session.get_credentials() is None


class Sts:
    """A real STS client answered by botocore's Stubber, and for which key and Region it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = boto3.Session("k", "s", region_name="us-east-1").client("sts")
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.opened: list[tuple[str, str]] = []

        def client(session: Any, service: str, *, region_name: str, **_: Any) -> Any:
            assert service == "sts"
            credentials = session.get_credentials()
            self.opened.append((credentials.access_key if credentials else "", region_name))
            return self.client

        monkeypatch.setattr(boto3.Session, "client", client)

    def answer(self, key: str, expires: dt.datetime, **expected: Any) -> None:
        request = {"RoleArn": ROLE, "RoleSessionName": "agentkit", "DurationSeconds": 3600}
        credentials = {
            "AccessKeyId": key.ljust(16, "x"),
            "SecretAccessKey": "s",
            "SessionToken": "t",
            "Expiration": expires,
        }
        self.stub.add_response("assume_role", {"Credentials": credentials}, request | expected)


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Sts:
    return Sts(monkeypatch)


@pytest.mark.promise("B28", "S0-10", "S1-73")
def test_a_role_is_assumed_when_first_needed_and_renewed_before_it_expires(sts: Sts) -> None:
    now = [START]
    sts.answer("first", START + dt.timedelta(hours=1))
    sts.answer("second", START + dt.timedelta(hours=2))
    session = open_session(AuthConfig("iam_role", role_arn=ROLE), now=lambda: now[0])
    assert sts.opened == [], "nothing is asked before the first request"
    for _ in range(20):
        assert key_of(session).startswith("first")
    now[0] = START + dt.timedelta(minutes=44)
    assert key_of(session).startswith("first")
    now[0] = START + dt.timedelta(minutes=46)
    for _ in range(20):
        assert key_of(session).startswith("second")
    sts.stub.assert_no_pending_responses()
    assert len(sts.opened) == 1


def test_the_external_id_name_and_duration_are_sent(sts: Sts) -> None:
    sts.answer(
        "k",
        START + dt.timedelta(hours=1),
        ExternalId="partner",
        RoleSessionName="job",
        DurationSeconds=900,
    )
    config = AuthConfig(
        "iam_role",
        role_arn=ROLE,
        external_id="partner",
        role_session_name="job",
        assume_role_duration=900,
    )
    assert key_of(open_session(config, now=lambda: START)).startswith("k")


def test_many_threads_assume_the_role_once(sts: Sts) -> None:
    sts.answer("k", START + dt.timedelta(hours=1))
    session = open_session(AuthConfig("iam_role", role_arn=ROLE), now=lambda: START)
    seen: list[str] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        seen.append(key_of(session))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    sts.stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDenied", "trust policy"),
        ("ExpiredToken", "renew"),
        ("SignatureDoesNotMatch", "clock"),
        ("InvalidClientTokenId", "check the keys"),
    ],
)
def test_a_role_that_cannot_be_assumed_is_reported_with_the_remedy(
    sts: Sts, code: str, hint: str
) -> None:
    sts.stub.add_client_error("assume_role", code)
    session = open_session(AuthConfig("iam_role", role_arn=ROLE), now=lambda: START)
    with pytest.raises(AuthenticationError, match="could not be assumed") as caught:
        key_of(session)
    assert hint in (caught.value.hint or "")


def test_the_role_is_assumed_by_the_given_keys_in_the_given_region(sts: Sts) -> None:
    config = AuthConfig(
        "iam_role", role_arn=ROLE, access_key="k", secret_key="s", region="eu-west-1"
    )
    sts.answer("role", START + dt.timedelta(hours=1))
    assert key_of(open_session(config, now=lambda: START)).startswith("role")
    assert sts.opened == [("k", "eu-west-1")]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "no usable credentials"),
        (ProfileNotFound(profile="p"), "p"),
        (ClientError({"Error": {"Code": "ExpiredTokenException"}}, "Converse"), "expired"),
        (ClientError({"Error": {"Code": "RequestTimeTooSkewed"}}, "Converse"), "signature"),
        (ClientError({"Error": {"Code": "UnrecognizedClientException"}}, "Converse"), "not know"),
        (type("SSOTokenLoadError", (Exception,), {})(), "single sign-on"),
    ],
)
def test_what_aws_says_of_credentials_is_one_type_with_a_remedy(
    error: Exception, words: str
) -> None:
    known = explain(error)
    assert known is not None
    assert words in known.message
    assert known.hint


@pytest.mark.parametrize(
    "error", [ValueError("x"), ClientError({"Error": {"Code": "ThrottlingException"}}, "Converse")]
)
def test_other_errors_are_none_of_its_business(error: Exception) -> None:
    assert explain(error) is None


def test_without_boto3_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_session(AuthConfig())
