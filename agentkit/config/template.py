"""The text of a configuration file to begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from agentkit.providers.registry import PROVIDERS, PROVIDERS_BY_KEY, ProviderInfo

_HEAD: Final = """\
# Configuration of agentkit. `agentkit config check` examines it, `agentkit config schema` prints
# every field. Keys stay in the environment: ${NAME} is replaced by the variable NAME.

providers:
"""
_TAIL: Final = """
# The provider that is tried first, and those that are tried after it:
default_provider: {first}
{fallback}

# Seconds for one request, including retries, waits and fallbacks:
deadline: 60

# Attempts at each provider, including the first:
max_retries: 3

# Where answers are kept for identical requests: disk, memory or off.
response_cache: off
"""


def template(environ: Mapping[str, str] | None = None) -> str:
    """A file with every provider that has a key in `environ`, or with one as an example.

    It contains names of variables, never a key.
    """
    environ = os.environ if environ is None else environ
    found = {kind: _variable(PROVIDERS[kind], environ) for kind in PROVIDERS_BY_KEY}
    keys = {kind: variable for kind, variable in found.items() if variable is not None}
    if not keys:
        keys = {"openai": PROVIDERS["openai"].key_variables[-1]}
    first, *others = keys
    fallback = f"fallback: [{', '.join(others)}]" if others else "# fallback: [another-provider]"
    blocks = "\n".join(_provider(kind, variable) for kind, variable in keys.items())
    return _HEAD + blocks + _TAIL.format(first=first, fallback=fallback)


def _variable(info: ProviderInfo, environ: Mapping[str, str]) -> str | None:
    """The variable that holds a key of the provider, or None."""
    names = info.all_key_variables
    return next((name for name in names if environ.get(name, "").strip(" ,")), None)


def _provider(kind: str, variable: str) -> str:
    lines = [f"  {kind}:", f"    api_keys: ${{{variable}}}"]
    model = PROVIDERS[kind].model
    if model is not None:
        lines.append(f"    models: {model}")
    return "\n".join([*lines, "    timeout: 30            # seconds for one attempt", ""])
