"""A secret hidden from repr, str, logs and pickles."""

from __future__ import annotations

from typing import Any

from agentkit.errors import AuthenticationError


class Secret:
    """Wraps a secret: `repr`, `str`, logs and tracebacks show ``***``, and pickles omit it."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret.

        Raises:
            AuthenticationError: the secret was omitted from a pickle.
        """
        if self._value is None:
            raise AuthenticationError(
                "pickles do not contain secrets",
                hint="build the AuthConfig in the process that uses it, or use a profile, the "
                "environment or a role",
            )
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (None,)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Secret:
        return self
