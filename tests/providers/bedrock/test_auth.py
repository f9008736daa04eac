"""An `AuthConfig` says who asks, accepts both spellings, and shows no secret to anyone."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

from agentkit.bedrock import AuthConfig, AuthenticationType
from agentkit.errors import AuthenticationError, ConfigurationError

KEY = "made-up-secret"
TOKEN = "made-up-token"
ROLE = "arn:aws:iam::123456789012:role/BedrockRole"


def keys(**more: Any) -> AuthConfig:
    return AuthConfig(
        auth_type=AuthenticationType.CREDENTIALS,
        access_key="AKIAEXAMPLE",
        secret_key=KEY,
        session_token=TOKEN,
        **more,
    )


def test_both_spellings_are_one_setting() -> None:
    other = AuthConfig(
        AuthenticationType.CREDENTIALS,
        access_key_id="AKIAEXAMPLE",
        secret_access_key=KEY,
        session_token=TOKEN,
        region="eu-west-1",
    )
    config = keys(region_override="eu-west-1")
    assert config == other
    assert hash(config) == hash(other)
    assert config.access_key == config.access_key_id == "AKIAEXAMPLE"
    assert config.secret_key is config.secret_access_key
    assert config.region_override == config.region == "eu-west-1"
    same = AuthConfig("credentials", access_key="a", access_key_id="a", secret_key="b")
    assert same.access_key_id == "a"


@pytest.mark.parametrize(
    "fields",
    [
        {"access_key": "a", "access_key_id": "b", "secret_key": "c"},
        {"access_key": "a", "secret_key": "b", "secret_access_key": "c"},
        {
            "access_key": "a",
            "secret_key": "b",
            "region": "us-east-1",
            "region_override": "us-west-2",
        },
    ],
)
def test_contradicting_spellings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="contradict"):
        AuthConfig(AuthenticationType.CREDENTIALS, **fields)


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("PROFILE", {}, "needs a profile_name"),
        ("CREDENTIALS", {"access_key": "a"}, "secret_access_key"),
        ("CREDENTIALS", {"access_key": "a", "secret_key": ""}, "non-empty"),
        ("CREDENTIALS", {"access_key": "a", "secret_key": b"bytes"}, "string"),
        ("IAM_ROLE", {"access_key": "a"}, "incomplete"),
        ("IAM_ROLE", {"session_token": "a"}, "incomplete"),
        ("IAM_ROLE", {"role_arn": "BedrockRole"}, "not the ARN of a role"),
        ("IAM_ROLE", {"external_id": "x"}, "role_arn"),
        ("IAM_ROLE", {"role_arn": ROLE, "role_session_name": "no spaces"}, "STS"),
        ("IAM_ROLE", {"role_arn": ROLE, "assume_role_duration": 60}, "at least 900"),
        ("IAM_ROLE", {"role_arn": ROLE, "assume_role_duration": 90_000}, "at most"),
        (
            "IAM_ROLE",
            {"role_arn": ROLE, "profile_name": "p", "access_key": "a", "secret_key": "b"},
            "not both",
        ),
        ("PROFILE", {"profile_name": "p", "role_arn": ROLE}, "does not use"),
        ("ENVIRONMENT", {"profile_name": "p"}, "does not use"),
        ("AUTO", {"access_key": "a", "secret_key": "b"}, "does not use"),
        ("AUTO", {"region": "the moon"}, "not an AWS Region"),
        ("KERBEROS", {}, "unknown auth_type"),
    ],
)
def test_what_cannot_work_is_refused(kind: str, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        AuthConfig(kind, **fields)


def test_the_default_is_the_sdks_own_chain() -> None:
    assert AuthConfig() == AuthConfig(AuthenticationType.AUTO)
    assert AuthConfig("iam_role", role_arn=ROLE).assume_role_duration == 3600


def test_an_auth_config_does_not_change() -> None:
    with pytest.raises(AttributeError):
        keys().region = "us-east-1"  # type: ignore[misc]


@pytest.mark.promise("S0-09")
def test_no_representation_shows_a_secret() -> None:
    config = keys(region="us-east-1")
    shown = f"{config} {config!r} {config.secret_key} {vars(type(config))!r} {[config]}"
    assert KEY not in shown
    assert TOKEN not in shown
    assert "AKIAEXAMPLE" not in shown
    assert "…MPLE" in repr(config)


def test_a_pickle_leaves_secrets_behind_and_says_so_when_they_are_missed() -> None:
    frozen = pickle.dumps(keys())
    assert KEY.encode() not in frozen
    assert TOKEN.encode() not in frozen
    copied = pickle.loads(frozen)
    assert copied.access_key_id == "AKIAEXAMPLE"
    with pytest.raises(AuthenticationError, match="pickles"):
        copied.secret_access_key.reveal()
    assert copy.deepcopy(keys()) == copy.copy(keys()) == keys()


def test_a_traceback_with_local_variables_shows_no_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        keys(access_key_id="another")
    last = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in last.stack if frame.filename.endswith("/bedrock/auth.py")]
    assert frames
    assert KEY not in str([frame.locals for frame in frames])
    assert TOKEN not in str([frame.locals for frame in frames])
