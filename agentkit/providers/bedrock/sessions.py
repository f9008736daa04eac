"""AWS sessions, made from an `AuthConfig` when first needed.

A session reads configuration files and the environment, and sends nothing. A role is assumed when
the first request is signed. botocore renews it before its credentials expire: it tries from 15
minutes before, and must from 10 minutes before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from agentkit.errors import AuthenticationError, MissingDependencyError
from agentkit.providers.bedrock.auth import AuthConfig, AuthenticationType

Now = Callable[[], dt.datetime]
_EXPIRED: Final = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_SKEWED: Final = {"SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed"}
_UNKNOWN_KEY: Final = {
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}


def boto3() -> Any:
    """The AWS SDK.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import boto3 as sdk
    except ImportError as error:
        raise MissingDependencyError(
            "boto3 is not installed", hint='pip install "agentkit-llms[bedrock]"'
        ) from error
    return sdk


def open_session(config: AuthConfig, *, now: Now | None = None) -> Any:
    """A boto3 session that authenticates as `config` says.

    Args:
        config: the source of the credentials.
        now: the clock (aware datetimes) that decides when a role is renewed; tests pass their own.

    Raises:
        AuthenticationError: no such profile, or no credentials in the environment.
    """
    sdk = boto3()
    kind = config.auth_type
    if kind is AuthenticationType.ENVIRONMENT:
        return _from_environment(config)
    if kind is AuthenticationType.IAM_ROLE:
        return _from_role(config, now) if config.role_arn else _from_machine(config)
    return _plain(sdk, config)


def explain(error: BaseException) -> AuthenticationError | None:
    """The error of our tree for an error about credentials; None for any other."""
    response = getattr(error, "response", None) or {}  # errors of the connection have None
    code = response.get("Error", {}).get("Code", "")
    name = type(error).__name__
    if code in _EXPIRED:
        problem, hint = "the credentials have expired", "renew them (`aws sso login`, a new token)"
    elif code in _SKEWED:
        problem = "the signature was not accepted"
        hint = "check the secret key, and this machine's clock: it may be off by minutes"
    elif code in _UNKNOWN_KEY:
        problem, hint = "AWS does not know these credentials", "check the keys and the account"
    elif name == "ProfileNotFound":
        problem, hint = str(error), "`aws configure list-profiles` lists the profiles"
    elif name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        problem = f"no usable credentials were found ({name})"
        hint = "set a profile, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
    elif "SSO" in name or name == "TokenRetrievalError":
        problem, hint = f"the single sign-on session cannot be used ({name})", "run `aws sso login`"
    else:
        return None
    return AuthenticationError(problem, provider="aws.bedrock", hint=hint)


def _plain(sdk: Any, config: AuthConfig) -> Any:
    """A session with a profile, with given keys, or with what the SDK finds."""
    from botocore.exceptions import BotoCoreError

    secret, token = config.secret_access_key, config.session_token
    try:
        return sdk.Session(
            profile_name=config.profile_name,
            aws_access_key_id=config.access_key_id,
            aws_secret_access_key=secret and secret.reveal(),
            aws_session_token=token and token.reveal(),
            region_name=config.region,
        )
    except BotoCoreError as error:
        raise explain(error) or AuthenticationError(
            f"no session could be made: {error}", provider="aws.bedrock"
        ) from error


def _with_resolver(config: AuthConfig, resolver_of: Callable[[Any], Any]) -> Any:
    import botocore.session

    core = botocore.session.Session()
    core.register_component("credential_provider", resolver_of(core))
    return boto3().Session(botocore_session=core, region_name=config.region)


def _from_environment(config: AuthConfig) -> Any:
    import os

    from botocore.credentials import CredentialResolver, EnvProvider
    from botocore.exceptions import PartialCredentialsError

    provider = EnvProvider()
    try:
        found = provider.load() is not None or bool(os.environ.get("AWS_BEARER_TOKEN_BEDROCK"))
    except PartialCredentialsError as error:
        raise _nothing_in_environment(str(error)) from error
    if not found:
        raise _nothing_in_environment("AWS_ACCESS_KEY_ID is not set")
    return _with_resolver(config, lambda _: CredentialResolver([provider]))


def _nothing_in_environment(problem: str) -> AuthenticationError:
    return AuthenticationError(
        f"there are no credentials in the environment: {problem}",
        provider="aws.bedrock",
        hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN if temporary), or "
        "AWS_BEARER_TOKEN_BEDROCK",
    )


def _from_machine(config: AuthConfig) -> Any:
    """A session with the role of this machine; keys and profiles of a person are ignored."""
    from botocore.credentials import create_credential_resolver

    def resolver_of(core: Any) -> Any:
        resolver = create_credential_resolver(core, region_name=config.region)
        for provider in list(resolver.providers):
            if provider.METHOD not in {
                "assume-role-with-web-identity",
                "container-role",
                "iam-role",
            }:
                resolver.remove(provider.METHOD)
        return resolver

    return _with_resolver(config, resolver_of)


def _from_role(config: AuthConfig, now: Now | None) -> Any:
    from botocore.credentials import (
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )

    sts = _Sts(config)
    clock = {"time_fetcher": now} if now else {}
    credentials = DeferredRefreshableCredentials(sts.assume, "assume-role", **clock)

    class Assumed(CredentialProvider):  # type: ignore[misc]
        METHOD = "agentkit-assume-role"

        def load(self) -> Any:
            return credentials

    return _with_resolver(config, lambda _: CredentialResolver([Assumed()]))


class _Sts:
    """Assumes the role of a configuration; its client is made when first needed."""

    def __init__(self, config: AuthConfig) -> None:
        self._config = config
        self._client: Any = None

    def assume(self) -> dict[str, str]:
        """New credentials, in the form of botocore's refreshable credentials."""
        from botocore.exceptions import BotoCoreError, ClientError

        config = self._config
        request: dict[str, Any] = {
            "RoleArn": config.role_arn,
            "RoleSessionName": config.role_session_name,
            "DurationSeconds": config.assume_role_duration,
        }
        if config.external_id:
            request["ExternalId"] = config.external_id
        try:
            if self._client is None:
                self._client = self._open()
            answer = self._client.assume_role(**request)["Credentials"]
        except (BotoCoreError, ClientError) as error:
            raise _not_assumed(config, error) from error
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    def _open(self) -> Any:
        from botocore.config import Config

        session = _plain(boto3(), self._config)
        region = self._config.region or session.region_name or "us-east-1"
        limits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
        return session.client("sts", region_name=region, config=limits)


def _not_assumed(config: AuthConfig, error: Exception) -> AuthenticationError:
    known = explain(error)
    code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
    wants = " and its external id" if config.external_id else ""
    return AuthenticationError(
        f"the role {config.role_arn} could not be assumed ({code})"
        + (f": {known.message}" if known else ""),
        provider="aws.bedrock",
        hint=known.hint
        if known
        else f"its trust policy must allow sts:AssumeRole for these credentials{wants}",
    )
