"""The validation of a request's responses, as a check of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agentkit.bedrock.attempts import ValidationAttempt
from agentkit.bedrock.options import ResponseValidationConfig
from agentkit.bedrock.response import BedrockResponse
from agentkit.errors import StructuredOutputError
from agentkit.providers.bedrock.exchange import CONVERSE, ConverseCall
from agentkit.types import Message, MessageRole, Request, Response


class ResponseCheck:
    """Applies a `ResponseValidationConfig` to the responses of one request.

    Args:
        config: the validation, and how often to ask again.
        translate: makes what the validation function receives.

    Attributes:
        attempts: each response that was checked, in order.
    """

    def __init__(
        self,
        config: ResponseValidationConfig,
        translate: Callable[[Response[Any]], BedrockResponse],
    ) -> None:
        self.attempts: list[ValidationAttempt] = []
        self._config = config
        self._translate = translate

    @property
    def retries(self) -> int | None:
        """Requests after a rejected response."""
        return self._config.retries

    @property
    def delay(self) -> float:
        """Seconds before asking again."""
        return self._config.delay

    def accept(self, response: Response[Any]) -> Response[Any]:
        """`response`, if the validation accepts it. Raises `StructuredOutputError`."""
        result = self._config.check(self._translate(response))
        text = None if result.success else response.text
        self.attempts.append(ValidationAttempt(len(self.attempts) + 1, result, text))
        if result.success:
            return response
        reason = result.error_message or "it was not accepted"
        raise StructuredOutputError(
            f"no answer passed the validation in {len(self.attempts)} requests: {reason}",
            raw=response.text,
            violations=[reason],
            hint="look at .response.get_validation_errors()",
        )

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        """The same request, with the rejected answer and the reason if that is wanted."""
        if not self._config.feedback:
            return asked
        added = (
            (MessageRole.ASSISTANT, rejected.raw or "(empty)"),
            (MessageRole.USER, f"That answer was not accepted: {rejected.violations[0]}"),
        )
        call: ConverseCall = asked.params[CONVERSE]
        turns = [{"role": role.value, "content": [{"text": text}]} for role, text in added]
        arguments = {**call.arguments, "messages": [*call.arguments["messages"], *turns]}
        call = replace(call, arguments=arguments, turns=call.turns + len(turns))
        messages = (*asked.messages, *(Message(role, text) for role, text in added))
        return replace(asked, messages=messages, params={**asked.params, CONVERSE: call})
