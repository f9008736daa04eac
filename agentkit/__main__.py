"""The command line: ``agentkit`` and ``python -m agentkit``."""

from __future__ import annotations

import os
import sys

_EXTRA = ("typer", "rich")
_INTERRUPTED = 130


def main() -> None:
    """Run the command in `sys.argv`, and raise `SystemExit`.

    Exit codes: 0 success; 1 failure, with one line on stderr; 2 wrong usage; 130 interrupted. Needs
    the ``cli`` extra.
    """
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader closed the pipe. Python would fail again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run() -> None:
    try:
        from agentkit.cli.app import app
        from agentkit.cli.completion import join_words_around_colons
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        sys.exit(f'agentkit: the command line needs {error.name}: pip install "agentkit-llms[cli]"')
    join_words_around_colons()
    app(prog_name="agentkit", standalone_mode=True)


if __name__ == "__main__":
    main()
