"""The prompts of a dataset of Ray Data: a class for `map_batches`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from agentkit.integrations.ray.managers import Make, maker
from agentkit.manager.batch_input import Line
from agentkit.manager.batch_output import Spent
from agentkit.manager.batch_run import PATIENCE, Progress, Run
from agentkit.manager.runner import arun_bounded
from agentkit.policy.validation import number, whole_number


class Asker:
    """Completes a column of prompts, batch by batch, in an actor of Ray Data::

        prompts.map_batches(
            Asker,
            fn_constructor_kwargs={"make": "agentkit.yaml", "max_concurrency": 64},
            compute=ray.data.ActorPoolStrategy(size=4),
            batch_size=256,
        )

    A prompt is a string or a list of messages. The result has the columns of the input and, for
    ``output="answer"``: ``answer`` (the text), ``answer_error`` (why there is none),
    ``answer_model`` (its name), ``answer_tokens`` and ``answer_cost`` (what all attempts took; US
    dollars, NaN if a price is unknown). Texts that do not exist are empty.

    An outage is waited out as in `complete_file`: a row gets an error if its request is at fault,
    and the dataset fails if no row was answered for `patience` seconds, or the keys are refused.
    Ray Data repeats batches of an actor that died, so that calls may be made twice; `map_prompts`
    continues after each line.

    Args:
        make: creates the manager, in the actor; or the path of a configuration on its host. API
            keys are read there; what is passed here is stored by Ray in plain text.
        column: the column of the prompts.
        output: the column of the answers, and how the other ones begin.
        options: arguments of `LLMManager.complete` and parameters of the model for every prompt.
        max_concurrency: the most requests of an actor at the same time (default 8).
        patience: see `complete_file`.

    Raises:
        ConfigurationError: the manager cannot be made, or an argument is invalid.
    """

    def __init__(
        self,
        make: Make,
        *,
        column: str = "prompt",
        output: str = "answer",
        options: Mapping[str, Any] | None = None,
        max_concurrency: int = 8,
        patience: float = PATIENCE,
    ) -> None:
        self._column = column
        self._output = output
        self._options = dict(options or {})
        self._max_concurrency = whole_number("max_concurrency", max_concurrency)
        self._numbers = itertools.count()
        self._run = Run(
            maker(make)(),
            Progress(),
            spent=Spent(),
            max_concurrency=max_concurrency,
            patience=number("patience", patience),
            budget=None,
            on_progress=None,
        )

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The columns of `batch`, and those of the answers.

        Raises:
            LLMError: the models are down for longer than `patience`, or the keys are refused.
        """
        results: dict[int, tuple[dict[str, Any], Spent]] = {}

        def keep(line: Line, result: tuple[dict[str, Any], Spent]) -> None:
            results[line.number] = result

        lines = [self._line(prompt) for prompt in batch[self._column]]
        await arun_bounded(
            self._run.complete, lines, keep, max_concurrency=self._max_concurrency + 1
        )
        return {**batch, **self._columns([results[line.number] for line in lines])}

    def _line(self, prompt: Any) -> Line:
        tolist = getattr(prompt, "tolist", None)  # an array of NumPy
        prompt = prompt if tolist is None else tolist()
        name = "prompt"
        if isinstance(prompt, list):  # Arrow fills the fields that some messages have with None
            name = "messages"
            prompt = [{k: v for k, v in each.items() if v is not None} for each in prompt]
        return Line(next(self._numbers), digest="", item={name: prompt, **self._options})

    def _columns(self, results: Iterable[tuple[dict[str, Any], Spent]]) -> dict[str, list[Any]]:
        names = ("", "_error", "_model", "_tokens", "_cost")
        columns: dict[str, list[Any]] = {self._output + name: [] for name in names}
        for result, spent in results:
            error = result.get("error")
            row = (
                result.get("text") or "",
                "" if error is None else f"{error['type']}: {error['message']}",
                result.get("model") or "",
                spent.tokens,
                math.nan if spent.usd is None else spent.usd,
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        return columns
