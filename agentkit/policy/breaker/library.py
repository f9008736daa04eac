"""pybreaker without the Redis client, which it imports wherever one is installed.

That import takes longer than all of agentkit's own, and only pybreaker's Redis storage uses it,
which agentkit does not. A program that asks pybreaker for that storage still gets it, and the
client with it.
"""

from __future__ import annotations

import builtins
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_NEEDS_REDIS = ("CircuitRedisStorage", "HAS_REDIS_SUPPORT")


def load_pybreaker() -> None:
    """Import pybreaker, leaving redis to whoever needs it, unless either is imported already."""
    spec = None if {"pybreaker", "redis"} & sys.modules.keys() else find_spec("pybreaker")
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_without_redis}
    spec.loader.exec_module(module)
    vars(module)["__builtins__"] = builtins
    held_back = {name: vars(module).pop(name) for name in _NEEDS_REDIS}

    def get(name: str) -> Any:
        if name in held_back:
            held_back.update(_redis_names())
            vars(module).update(held_back)
        if name in vars(module):
            return vars(module)[name]
        raise AttributeError(f"module 'pybreaker' has no attribute {name!r}")

    vars(module)["__getattr__"] = get
    sys.modules.setdefault("pybreaker", module)


def _import_without_redis(name: str, *args: Any, **kwargs: Any) -> ModuleType:
    if name.partition(".")[0] == "redis":
        raise ImportError("imported when it is needed")
    return builtins.__import__(name, *args, **kwargs)


def _redis_names() -> dict[str, Any]:
    """What pybreaker imports from redis, and whether it could."""
    try:
        redis, client = import_module("redis"), import_module("redis.client")
        exceptions = import_module("redis.exceptions")
        return {
            "HAS_REDIS_SUPPORT": True,
            "Redis": redis.Redis,
            "Pipeline": client.Pipeline,
            "RedisError": exceptions.RedisError,
        }
    except ImportError:
        return {"HAS_REDIS_SUPPORT": False}
