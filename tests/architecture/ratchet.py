"""How many findings of each rule are still allowed.

While the code moves towards its rules, a number here is what is left. Lower it whenever there is
less; it never rises. A rule without a number allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.architecture.tree import Finding, where

RATCHET: Mapping[str, int] = {
    "words": 28,
    "docstrings": 2,
}


def assert_none_above(name: str, findings: Sequence[Finding]) -> None:
    """Fail if there are more `findings` of the rule `name` than are left."""
    left = RATCHET.get(name, 0)
    shown = [where(found.path, found.line, found.what) for found in findings]
    assert len(findings) <= left, (
        f"{len(findings)} of {name!r}, at most {left} are left"
        f" (all: python -m tests.architecture.figures --list {name}):\n" + "\n".join(shown[:40])
    )
