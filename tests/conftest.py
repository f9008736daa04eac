"""What every test gets: an empty environment, its own directories and no way out of the machine."""

from __future__ import annotations

import gc
import inspect
import itertools
import os
import random
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import seed, settings

from agentkit.testing import forbid_network

# Anything a developer's shell may hold that would change what agentkit or an SDK does.
_FOREIGN = re.compile(
    r"^(AGENTKIT|OTEL|AWS|OPENAI|ANTHROPIC|GOOGLE|GEMINI|GROQ)_|_(API_KEY|MODEL|BASE_URL)$|_PROXY$",
    re.IGNORECASE,
)

settings.register_profile("fixed", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("fixed")

RANDOM_EXAMPLES = 10
"""How many random examples each property gets after its fixed ones."""

_numbers = itertools.count()
_OFFLINE = forbid_network()
_OFFLINE.__enter__()  # for the life of the process, collection included
gc.disable()  # until the tests are collected: what has been loaded stays


class _Heap:
    """What lives as long as the process: the collector need not look at it again and again."""

    modules = 0

    @classmethod
    def freeze(cls) -> None:
        """Keep the collector from what has been loaded."""
        if len(sys.modules) > cls.modules:
            gc.collect()
            gc.freeze()
            cls.modules = len(sys.modules)


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are processors: half of the time, a test waits for something else."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(trylast=True)  # after the order has been shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes seconds, so that no worker is alone with it in the end."""
    items.sort(key=_is_quick)


def _is_quick(item: pytest.Item) -> bool:
    starts_processes = item.get_closest_marker("processes") is not None
    return not (starts_processes or "site" in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    _Heap.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After the fixed examples of a property, some random ones; a failure names their seed."""
    result = yield
    if pyfuncitem.get_closest_marker("hypothesis") is not None:
        given = pyfuncitem.config.getoption("--hypothesis-seed")
        number = random.SystemRandom().randrange(2**32) if given is None else int(given)
        try:
            _try_random_examples(pyfuncitem, number)
        except Exception as failure:
            failure.add_note(f"Random examples: repeat them with --hypothesis-seed={number}.")
            raise
    return result


def _try_random_examples(item: pytest.Function, number: int) -> None:
    test = getattr(item.obj, "__func__", item.obj)
    before = dict(vars(test))
    fixed = test._hypothesis_internal_use_settings  # there is no other way to read a test's own
    try:
        test._hypothesis_internal_use_settings = settings(
            fixed, derandomize=False, max_examples=min(fixed.max_examples, RANDOM_EXAMPLES)
        )
        seed(number)(test)
        arguments = inspect.signature(item.obj).parameters
        item.obj(**{name: item.funcargs[name] for name in arguments})
    finally:
        vars(test).update(before)


@pytest.fixture(scope="session", name="certificate")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate: to load all of them, as each client does, takes longer than to ask."""
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session", name="responses")
def _responses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("responses")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, responses: Path, certificate: Path) -> None:
    """No key, no setting and no file of the developer reaches a test."""
    for name in list(os.environ):
        if _FOREIGN.search(name):
            monkeypatch.delenv(name)
    # Few tests write there; `tmp_path` would make a directory for each of them.
    monkeypatch.setenv("AGENTKIT_CACHE_DIR", str(responses / str(next(_numbers))))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@pytest.fixture
def small_heap() -> None:
    """Make `gc.collect` fast, for tests that call it often: see `_Heap`."""
    _Heap.freeze()


@pytest.fixture
def network_allowed() -> Iterator[None]:
    """Lift the suite's own lock on the network, for tests of that lock."""
    _OFFLINE.__exit__(None, None, None)
    yield
    _OFFLINE.__enter__()


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, which it does not do in a background job of a shell.

    The collector waits: Hypothesis has a callback there, in which Python would lose the exception.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, before)
