"""A file of requests on a Ray cluster: actors that answer shards.

An actor is a process with one manager for its life. Ray starts actors and says when one is gone;
shards, budgets and files are those of `complete_shards`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import ConfigurationError, LLMError
from agentkit.integrations.ray.managers import Make, maker, require_no_secret, require_ray
from agentkit.manager.batch_coordinator import Coordinator, WorkerDiedError
from agentkit.manager.batch_jobs import Job, Outcome, Ready, Report, Settings, answer_job
from agentkit.manager.batch_run import PATIENCE, Progress
from agentkit.manager.shards import Plan
from agentkit.policy.budget import Budget
from agentkit.policy.validation import number, whole_number

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

_log = logging.getLogger("agentkit.batch")

_PLACE: Final[Mapping[str, Any]] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
"""A processor for each actor, and hosts in turn: one that fails takes few of them along."""
_OURS: Final[Mapping[str, Any]] = {"max_restarts": 0, "max_task_retries": 0}
"""An actor that dies is replaced by the coordinator, which knows its shard."""
_STARTS_WITHIN: Final = 60.0
"""Seconds without any actor after which the log says so."""


def map_prompts(
    make: Make,
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    address: str = "auto",
    shards: int | None = None,
    workers: int | None = None,
    max_concurrency: int = 8,
    patience: float = PATIENCE,
    budget: Budget | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    actor_options: Mapping[str, Any] | None = None,
) -> Progress:
    """Complete every line of `source` with actors on a Ray cluster; `folder` gets a file a shard.

    Input, results, budget and errors are those of `complete_shards`, and so is what happens in an
    outage. Run it again to continue, on Ray or not, with any number of workers. A worker that dies
    is replaced, and at most `max_concurrency` calls are made again. `join_shards` makes one file of
    the results.

    API keys are read from the environment of the workers, and are not sent by Ray. The same is true
    of the store of a fleet in ``AGENTKIT_FLEET``, where the workers share limits, breakers and
    responses. All hosts need agentkit, and `source` and `folder` on a shared file system that has
    locks.

    Args:
        make: creates the manager of a worker, in its process; or the path of a configuration that
            the worker reads, without response cache.
        source: the requests.
        folder: the outputs; created if it does not exist.
        address: ``"auto"`` (the cluster in ``RAY_ADDRESS`` or of this host, or else a new one on
            this host, for this run), ``"local"`` (a new one) or ``"host:port"``. Ignored if Ray is
            connected already.
        shards: the number of shards (default: one for each MiB of input).
        workers: the most actors (default: the processors of the cluster).
        max_concurrency: the most requests of a worker at the same time (default 8).
        patience: see `complete_file`.
        budget: what all runs for `folder` together may spend: pass a new one to each run.
        on_progress: called with the sum over all shards, about ten times a second.
        actor_options: options of Ray for the actors, such as ``resources`` (default: one processor
            each, spread over the hosts).

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: see `complete_shards`; `make` contains a secret of the environment, or
            there is no cluster at `address`.
        BudgetExceededError: the budget is too small for the next item.
        LLMError: what ended a shard, or three workers died over one. The same call continues.
    """
    require_ray()
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    for name, value in (("shards", shards), ("workers", workers)):
        if value is not None:
            whole_number(name, value)
    plan = Plan.open(Path(source).absolute(), Path(folder).absolute(), shards)
    options = {**_PLACE, **(actor_options or {}), **_OURS}
    require_no_secret(maker(make), options)
    with _connected(address):
        count = workers or _processors()
        settings = Settings.of(
            maker(make), plan, workers=count, max_concurrency=max_concurrency, patience=patience
        )
        pool = _Actors(settings, options)
        return Coordinator(plan, pool, budget=budget, on_progress=on_progress).run(count)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be connected to a cluster; what is opened here is closed at the end.

    Raises:
        ConfigurationError: there is no cluster.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    if address.startswith("ray://"):
        raise ConfigurationError(
            f"{address} is an address of Ray Client, through which progress cannot be reported",
            hint="run it on a host of the cluster, for example with `ray job submit`",
        )
    # Nothing that agentkit starts reports to anybody; a cluster that runs has its own setting.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=None if address == "auto" else address,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"there is no Ray cluster at {address}: {error}",
            hint='use "auto", or check the address',
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _processors() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


class _Actor:
    """What runs in an actor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._manager: LLMManager

    async def begin(self) -> Ready | LLMError:
        """Make the manager."""
        try:
            self._manager = self._settings.make()
        except LLMError as error:
            return error
        return Ready()

    async def answer(self, job: Job) -> AsyncIterator[Report | Outcome]:
        """Reports of `job`, and how it ended."""
        reports: asyncio.Queue[Report | None] = asyncio.Queue()
        answering = asyncio.create_task(
            answer_job(self._manager, self._settings, job, reports.put_nowait)
        )
        answering.add_done_callback(lambda _: reports.put_nowait(None))
        while (report := await reports.get()) is not None:
            yield report
        yield await answering


class _Worker:
    """An actor, as its parent sees it."""

    def __init__(self, settings: Settings, options: Mapping[str, Any]) -> None:
        import ray

        self._actor = ray.remote(_Actor).options(**options).remote(settings)
        self.pending: Any = self._actor.begin.remote()
        """The reference to what it says next, or a generator of them."""
        self._reports: Iterator[Any] | None = None

    def start(self, job: Job) -> None:
        """Hand `job` to the actor."""
        self.pending = self._reports = self._actor.answer.options(num_returns="streaming").remote(
            job
        )

    def receive(self) -> Any:
        """What the actor sent.

        Raises:
            WorkerDiedError: nothing; it is gone, or raised an error that is not agentkit's.
        """
        import ray

        try:
            reference = self.pending if self._reports is None else next(self._reports)
            return ray.get(reference)
        except (ray.exceptions.RayError, StopIteration) as error:
            raise WorkerDiedError(f"with {_reason_of(error)}") from None

    def end(self) -> None:
        """Kill the actor, whatever it does: its shard can be continued."""
        import ray

        ray.kill(self._actor)


def _reason_of(error: Exception) -> str:
    """What is worth knowing of an error of Ray: the cause in the actor, without its traceback."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {cause}"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class _Actors:
    """Actors of the cluster."""

    def __init__(self, settings: Settings, options: Mapping[str, Any]) -> None:
        self._settings = settings
        self._options = options
        self._any_started = False

    def start_worker(self) -> _Worker:
        """Start an actor. It may have to wait for a host."""
        return _Worker(self._settings, self._options)

    def wait(self, workers: Sequence[_Worker]) -> Iterable[_Worker]:
        """Wait for one of `workers` to say something; returns those that did."""
        import ray

        by_pending = {worker.pending: worker for worker in workers}
        pending = list(by_pending)
        patience = None if self._any_started else _STARTS_WITHIN
        ready, _ = ray.wait(pending, timeout=patience)
        if not ready:
            _log.warning(
                "no worker has started for %.0f s: Ray finds no host with %s",
                patience,
                self._options,
            )
            return []
        self._any_started = True
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        return [by_pending[each] for each in ready]
