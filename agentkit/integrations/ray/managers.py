"""The managers of Ray's workers: made where they work, with keys from there."""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from agentkit.errors import ConfigurationError
from agentkit.providers.requirements import require_sdk

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

Make: TypeAlias = "Callable[[], LLMManager] | str | os.PathLike[str]"
"""A function that makes the manager of a worker, or the path of a configuration on its host."""

_SECRET_NAME: Final = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET: Final = 12
"""Shorter values of variables are words that may be anywhere."""


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    require_sdk("ray", "ray")


def maker(make: Make) -> Callable[[], LLMManager]:
    """The function that makes a manager, without response cache if it is a configuration."""
    return make if callable(make) else functools.partial(_configured, os.fspath(make))


def _configured(path: str) -> LLMManager:
    from agentkit.manager.manager import LLMManager

    return LLMManager.from_config(path, enable_caching=False)


def require_no_secret(*sent: Any) -> None:
    """Check that what Ray is going to store and send has no secret of this process's environment.

    A function of the main script is sent with the values of the globals that it uses, and Ray keeps
    what it sends in plain text.

    Raises:
        ConfigurationError: the value of such a variable is in it, or it cannot be sent.
    """
    from ray import cloudpickle

    try:
        text = cloudpickle.dumps(sent)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"make cannot be sent to another process: {error}",
            hint="let the function make everything that it needs",
        ) from None
    for name, value in os.environ.items():
        secret = value.strip()
        if len(secret) < _SHORTEST_SECRET or not _SECRET_NAME.search(name):
            continue
        if secret.encode() in text:
            raise ConfigurationError(
                f"make has the value of {name}, which Ray would store in plain text",
                hint="read it inside the function; set the variable on the hosts of Ray",
            )
