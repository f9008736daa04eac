"""``agentkit chat``: a conversation that streams, remembers, and survives a failure or Ctrl-C."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agentkit.cli.output import fail, forgive, one_line
from agentkit.cli.session import BaseUrl, Models, System, harmless, manager_of, say
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager
    from agentkit.types import Message

_HELP = "/reset forgets the conversation, /save FILE keeps it as JSON, /quit (or Ctrl-D) leaves"


def command(model: Models = None, system: System = None, base_url: BaseUrl = None) -> None:
    """Talk with a model.

    Ctrl-C stops an answer, Ctrl-D leaves. /reset, /save FILE, /quit and /help are commands; what
    failed is forgotten, so that it can be said again.
    """
    forgive(sys.stdout)
    forgive(sys.stderr)
    try:
        with manager_of(model, base_url) as manager:
            _Chat(manager, system).run()
    except LLMError as error:
        fail(one_line(error))


class _Chat:
    """One conversation at a terminal, or line by line from a pipe."""

    def __init__(self, manager: LLMManager, system: str | None) -> None:
        from agentkit.types import Message, MessageRole

        self._manager = manager
        self._beginning = [] if system is None else [Message(MessageRole.SYSTEM, system)]
        self._messages: list[Message] = list(self._beginning)
        self._asks = sys.stdin.isatty()
        if self._asks:
            _note(f"{', '.join(manager.list_models())}; {_HELP}")
            _line_editing()

    def run(self) -> None:
        """Until the other side leaves."""
        while True:
            try:
                line = input("> " if self._asks else "").strip()
            except EOFError:
                if self._asks:
                    say("\n")
                return
            except KeyboardInterrupt:
                if not self._asks:
                    raise
                say("\n")
                continue
            except UnicodeDecodeError:
                _note("that is no UTF-8 and was not sent")
                continue
            if line.startswith("/"):
                if not self._obey(line):
                    return
            elif line:
                self._answer(line)

    def _obey(self, line: str) -> bool:
        """Do what a command says; False: leave."""
        name, _, rest = line.partition(" ")
        if name == "/quit":
            return False
        if name == "/reset":
            self._messages = list(self._beginning)
            _note("forgotten")
        elif name == "/save" and rest.strip():
            self._save(Path(rest.strip()).expanduser())
        else:
            _note(_HELP)
        return True

    def _save(self, path: Path) -> None:
        told = [{"role": str(each.role), "content": each.text} for each in self._messages]
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(told, file, ensure_ascii=False, indent=2)
                file.write("\n")
        except OSError as error:
            _note(f"not saved: {path}: {error.strerror}")
        else:
            _note(f"{len(told)} messages saved in {path}")

    def _answer(self, line: str) -> None:
        """Say `line`, and what comes back while it comes; an answer that was cut short counts."""
        from agentkit.types import Message, MessageRole

        asked = [*self._messages, Message(MessageRole.USER, line)]
        pieces: list[str] = []
        trouble = ""
        try:
            with self._manager.stream(asked) as stream:
                for piece in stream:
                    pieces.append(piece)  # before it is shown: what was seen is remembered
                    say(piece)
        except KeyboardInterrupt:
            if not self._asks:
                raise
            trouble = "stopped"
        except LLMError as error:
            trouble = one_line(error)
        if pieces:
            say("\n")
            self._messages = [*asked, Message(MessageRole.ASSISTANT, "".join(pieces))]
        if trouble:
            _note(trouble)


def _note(text: str) -> None:
    """Words about the chat that are no part of it."""
    print(f"agentkit: {harmless(text)}", file=sys.stderr)


def _line_editing() -> None:
    """Arrow keys edit and recall lines, where the system offers that; nothing is kept on disk."""
    try:
        import readline  # noqa: F401 - importing it is what makes input() edit
    except ImportError:
        return
