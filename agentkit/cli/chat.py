"""``agentkit chat``: a conversation that streams, and continues after an error or Ctrl-C."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.cli.output import count, fail, note, one_line, replace_unprintable, write
from agentkit.cli.session import (
    BaseUrl,
    Models,
    Options,
    System,
    manager_of,
    params_of,
    shown_retries,
)
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager
    from agentkit.types import Message

_HELP = "/reset clears the conversation, /save FILE saves it as JSON, /quit (or Ctrl-D) leaves"


def command(
    model: Models = None,
    system: System = None,
    option: Options = None,
    base_url: BaseUrl = None,
) -> None:
    """Chat with a model.

    Ctrl-C stops an answer, Ctrl-D leaves. /reset, /save FILE, /quit and /help are commands. A
    message that fails is removed from the conversation, so you can send it again.
    """
    replace_unprintable(sys.stdout)
    replace_unprintable(sys.stderr)
    try:
        params = params_of(option)
        with manager_of(model, base_url) as manager, shown_retries():
            _Chat(manager, system, params).run()
    except LLMError as error:
        fail(one_line(error))


class _Chat:
    """One conversation, on a terminal or line by line from a pipe."""

    def __init__(self, manager: LLMManager, system: str | None, params: dict[str, Any]) -> None:
        from agentkit.types import Message, MessageRole

        self._manager = manager
        self._params = params
        self._start = [] if system is None else [Message(MessageRole.SYSTEM, system)]
        self._messages: list[Message] = list(self._start)
        self._is_interactive = sys.stdin.isatty()
        if self._is_interactive:
            note(f"{', '.join(manager.list_models())}; {_HELP}")
            _enable_line_editing()

    def run(self) -> None:
        """Answer each line until the input ends."""
        while True:
            try:
                line = input("> " if self._is_interactive else "").strip()
            except EOFError:
                if self._is_interactive:
                    write("\n")
                return
            except KeyboardInterrupt:
                if not self._is_interactive:
                    raise
                write("\n")
                continue
            except UnicodeDecodeError:
                note("the line is not UTF-8 and was not sent")
                continue
            if line == "/quit":
                return
            if line.startswith("/"):
                self._run_command(line)
            elif line:
                self._answer(line)

    def _run_command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if name == "/reset":
            self._messages = list(self._start)
            note("the conversation was cleared")
        elif name == "/save" and argument.strip():
            self._save(Path(argument.strip()).expanduser())
        else:
            note(_HELP)

    def _save(self, path: Path) -> None:
        messages = [{"role": str(each.role), "content": each.text} for each in self._messages]
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(messages, file, ensure_ascii=False, indent=2)
                file.write("\n")
        except OSError as error:
            note(f"not saved: {path}: {error.strerror}")
        else:
            note(f"{count(len(messages), 'message', 'messages')} saved in {path}")

    def _answer(self, line: str) -> None:
        """Send `line` and write the answer as it arrives; a partial answer is kept, too."""
        from agentkit.types import Message, MessageRole

        messages = [*self._messages, Message(MessageRole.USER, line)]
        chunks: list[str] = []
        answer: Message | None = None
        problem = ""
        try:
            with self._manager.stream(messages, params=self._params) as stream:
                for chunk in stream:
                    chunks.append(chunk)  # before it is written: what was seen is kept
                    write(chunk)
            answer = stream.response.message  # with what the model needs back, such as signatures
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
            problem = "stopped"
        except LLMError as error:
            problem = one_line(error)
        if chunks:
            write("\n")
            partial = Message(MessageRole.ASSISTANT, "".join(chunks))
            self._messages = [*messages, answer or partial]
        if problem:
            note(problem)


def _enable_line_editing() -> None:
    """Let arrow keys edit and recall lines where the system supports it; saves no history."""
    try:
        import readline  # noqa: F401 - importing it makes input() edit
    except ImportError:
        return
