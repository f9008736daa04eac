"""From a file and the environment to `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agentkit.config.settings import Settings


def load_settings(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the configuration.

    Looked for in this order: `path`, the file named by ``AGENTKIT_CONFIG``, ``config/llm.yaml`` in
    the current directory, and without a file the key variables of the environment alone. In every
    case ``AGENTKIT_…`` variables override single values. `environ` (default `os.environ`) is only
    read.

    Raises:
        ConfigurationError: no file where one was named, something wrong in it, or no key anywhere.
            Names file, line, value and remedy, and never a key.
        MissingDependencyError: the extra ``config`` is needed and not installed.
    """
    from agentkit.config.resolve import assemble

    return assemble(path, os.environ if environ is None else environ)
