"""Show blocks fenced as `python no-run` as Python: the second word is for the tests alone."""

from __future__ import annotations

import re
from typing import Any

_NO_RUN = re.compile(r"^( *`{3,}python) no-run$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the source of each page."""
    return _NO_RUN.sub(r"\1", markdown)
