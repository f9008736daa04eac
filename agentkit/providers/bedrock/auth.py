"""Credentials of requests to AWS.

An `AuthConfig` names their source. Nothing is read, opened or sent until the first client is needed
(see `agentkit.providers.bedrock.sessions`). Secrets are wrapped, so that no representation shows
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import whole_number
from agentkit.providers.bedrock.regions import check_region
from agentkit.providers.bedrock.secret import Secret
from agentkit.providers.bedrock.validation import member, one_of


class AuthenticationType(StrEnum):
    """The source of credentials."""

    PROFILE = "profile"
    """A named profile of the AWS configuration files."""
    ENVIRONMENT = "environment"
    """Only the environment: AWS_ACCESS_KEY_ID and its companions, or a Bedrock API key."""
    CREDENTIALS = "credentials"
    """The keys of this configuration."""
    IAM_ROLE = "iam_role"
    """The role of `role_arn`, assumed through STS and renewed before it expires; without one, the
    role of this machine (web identity, container or instance)."""
    AUTO = "auto"
    """The default chain of the AWS SDK: environment, files, container, instance."""


_FIELDS_OF: Final = {
    AuthenticationType.PROFILE: {"profile_name"},
    AuthenticationType.ENVIRONMENT: set[str](),
    AuthenticationType.CREDENTIALS: {"access_key_id", "secret_access_key", "session_token"},
    AuthenticationType.IAM_ROLE: {
        *("profile_name", "access_key_id", "secret_access_key", "session_token"),
        *("role_arn", "external_id", "role_session_name", "assume_role_duration"),
    },
    AuthenticationType.AUTO: set[str](),
}
_SHOWN: Final = (
    *("profile_name", "access_key_id", "secret_access_key", "session_token"),
    *("region", "role_arn", "external_id"),
)
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/.+")
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class AuthConfig:
    """How requests are authenticated.

    Three fields have two spellings; given together, they must agree.

    Args:
        auth_type: the source of the credentials (default AUTO).
        profile_name: for PROFILE; for IAM_ROLE, the profile that assumes the role.
        access_key_id, secret_access_key: for CREDENTIALS; for IAM_ROLE, the keys that assume the
            role. Also ``access_key``, ``secret_key``.
        session_token: of temporary keys.
        region: the Region of the session, and of STS. Also ``region_override``.
        role_arn: for IAM_ROLE, the role to assume.
        external_id: the id that the trust policy of the role requires.
        role_session_name: the name of the session in audit logs (default ``agentkit``).
        assume_role_duration: lifetime of the role's credentials in seconds, 900 to 43,200
            (default 3,600).

    Raises:
        ConfigurationError: a field is missing or malformed, contradicts its other spelling, or
            this `auth_type` does not use it.
    """

    auth_type: AuthenticationType
    profile_name: str | None
    access_key_id: str | None
    secret_access_key: Secret | None
    session_token: Secret | None
    region: str | None
    role_arn: str | None
    external_id: str | None
    role_session_name: str
    assume_role_duration: int

    def __init__(
        self,
        auth_type: AuthenticationType | str = AuthenticationType.AUTO,
        profile_name: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        region: str | None = None,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        region_override: str | None = None,
        role_arn: str | None = None,
        external_id: str | None = None,
        role_session_name: str | None = None,
        assume_role_duration: int | None = None,
    ) -> None:
        # Wrapped and deleted first, so that a traceback with local variables shows no secret.
        secrets = [_wrap(secret_access_key), _wrap(secret_key), _wrap(session_token)]
        del secret_access_key, secret_key, session_token
        values: dict[str, Any] = {
            "profile_name": profile_name,
            "access_key_id": one_of("access_key_id", access_key_id, "access_key", access_key),
            "secret_access_key": one_of("secret_access_key", secrets[0], "secret_key", secrets[1]),
            "session_token": secrets[2],
            "role_arn": role_arn,
            "external_id": external_id,
            "role_session_name": role_session_name,
            "assume_role_duration": assume_role_duration,
        }
        kind = member("auth_type", AuthenticationType, auth_type)
        _check(kind, values)
        values["role_session_name"] = role_session_name or "agentkit"
        values["assume_role_duration"] = assume_role_duration or 3600
        place = one_of("region", region, "region_override", region_override)
        values["region"] = None if place is None else check_region(place)
        for name, value in {"auth_type": kind, **values}.items():
            object.__setattr__(self, name, value)

    @property
    def access_key(self) -> str | None:
        """The same as `access_key_id`."""
        return self.access_key_id

    @property
    def secret_key(self) -> Secret | None:
        """The same as `secret_access_key`."""
        return self.secret_access_key

    @property
    def region_override(self) -> str | None:
        """The same as `region`."""
        return self.region

    def __repr__(self) -> str:
        key, external = self._shown("access_key_id"), self._shown("external_id")
        shown = {name: self._shown(name) for name in _SHOWN}
        shown["access_key_id"] = key and f"…{key[-4:]}"
        shown["external_id"] = external and Secret(None)
        given = "".join(f", {name}={value!r}" for name, value in shown.items() if value is not None)
        return f"AuthConfig({self._shown('auth_type')}{given})"

    def _shown(self, name: str) -> Any:
        """A field; None during `__init__`, as a traceback may show the object."""
        return getattr(self, name, None)


def _wrap(secret: Any) -> Secret | None:
    return secret if secret is None or isinstance(secret, Secret) else Secret(secret)


def _check(kind: AuthenticationType, values: dict[str, Any]) -> None:
    given = {name for name, value in values.items() if value is not None}
    if unused := given - _FIELDS_OF[kind]:
        raise ConfigurationError(
            f"authentication by {kind.name} does not use {_words(unused)}",
            hint="leave it out, or choose the authentication type that uses it",
        )
    if kind is AuthenticationType.PROFILE and not values["profile_name"]:
        raise ConfigurationError(
            "authentication by PROFILE needs a profile_name",
            hint="`aws configure list-profiles` lists them",
        )
    keys = {"access_key_id", "secret_access_key"}
    if missing := keys - given:
        if kind is AuthenticationType.CREDENTIALS:
            raise ConfigurationError(
                f"authentication by CREDENTIALS needs {_words(missing)} as well"
            )
        if len(missing) == 1 or "session_token" in given:
            raise ConfigurationError(f"the keys are incomplete: {_words(missing)} missing")
    elif "profile_name" in given:
        raise ConfigurationError("give either a profile_name or keys to assume the role, not both")
    for name in ("secret_access_key", "session_token"):
        if name in given and not _is_nonempty_string(values[name].reveal()):
            raise ConfigurationError(f"{name} must be a non-empty string")
    _check_role(values)


def _is_nonempty_string(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _check_role(values: dict[str, Any]) -> None:
    role = values["role_arn"]
    if role is None:
        if values["external_id"] is not None:
            raise ConfigurationError("external_id is used to assume a role: give role_arn as well")
    elif not _ROLE.fullmatch(role):
        raise ConfigurationError(
            f"{role!r} is not the ARN of a role", hint="write arn:aws:iam::123456789012:role/Name"
        )
    name = values["role_session_name"]
    if name is not None and not _SESSION_NAME.fullmatch(name):
        raise ConfigurationError(
            f"role_session_name {name!r} is not accepted by STS",
            hint="2 to 64 letters, digits and any of _+=,.@-",
        )
    seconds = values["assume_role_duration"]
    if seconds is not None and whole_number("assume_role_duration", seconds, minimum=900) > 43_200:
        raise ConfigurationError("assume_role_duration is at most 43,200 seconds (12 hours)")


def _words(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
