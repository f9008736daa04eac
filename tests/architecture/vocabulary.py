"""Words that this project once used in a sense of its own, and what to write instead.

Identifiers are read as words: ``_told`` and ``ToldState`` contain "told". A phrase may run over a
line break. `RIGHT_USES` lists where such a word has its ordinary meaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, Finding, read

PRIVATE_WORDS = {
    r"wish(es|ed|ing)?": "tool call",
    r"told|tells|tell(?=\()|brought|said": "reported, passed, returned",
    r"flights?|riders?|rid(e|es|ing)|board(s|ed|ing)?|passengers?": "shared call, leader, follower",
    r"land(s|ed|ing)?|(take|takes|took|taking|taken) off": "shared call, leader, follower",
    r"tales?|narrat(e|es|ed|ing|ion|or)": "stream, stream event",
    r"wholes?|wholly": "complete, entire, non-streaming",
    r"colours?|hops?": "sync or async",
    r"let(s|ting)? (\w+ )?go|(is|are|was|were|be|being|gets?|been) cut|cut (by|for)": "abandoned",
    r"rest(s|ing)|ask(s|ed|ing)? for silence": "rate limited until",
    r"(go|goes|going|went|gone) on": "continues",
    r"(again|returns?|raise[sd]?|fails?|rejected|refused|move[sd]? on) at once": "immediately",
    r"verdicts?": "classification",
    r"(is|are|was|were) no|(that|which|it|what) (is|are) (?-i:none)": "is not a ..., must be a ...",
    r"a text": "a string, text",
    r"nobody|somebody": "no caller, a caller",
}  # a regular expression for each word, and the words to use instead
RIGHT_USES = (
    r"single( )?flight|in flight",
    r"landing page",
    r"whole (number|second|minute)s?",
    r"as a whole|(the|an?|its|their|your) whole (?!(answer|response|reply|one|of|or|and)s?\b)\w+",
    r"there (is|are|was|were) no|(is|are|was|were) no (longer|more|less|fewer)",
    r"(is|are|was|were) cut (off|short)",
    r"a text (block|part|chunk|delta|event|file|field|format|document|editor|answer|message)s?",
    r"resting(?=\")|rests? on",
    r"you said",
    r"(light|dark) colours?|colour (scheme|palette)s?",
    r"is (?-i:NO)_\w+",
)

TEXTS = (
    "*.py",
    "*.md",
    "*.toml",
    "*.yml",
    "*.yaml",
    "*.json",
    "Makefile",
    "*.pyi",
)
FOLDERS = ("agentkit", "tests", "docs", "examples", "benchmarks", "dashboards", "packaging")
GAP = r"[\s_#*-]+"
NOT_PROSE = (
    "tests/architecture/vocabulary.py",
    "tests/architecture/test_measures.py",
    "docs/benchmarks/results.json",
)


def _pattern() -> re.Pattern[str]:
    start = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    end = r"(?![a-z])(?!(?<=[A-Z])[A-Z])"
    right = "|".join(RIGHT_USES).replace(" ", GAP)
    wrong = "|".join(PRIVATE_WORDS).replace(" ", GAP)
    return re.compile(f"{start}(?i:(?P<right>{right})|(?P<wrong>{wrong})){end}")


@functools.cache
def private_words(root: Path = ROOT) -> list[Finding]:
    """Every use of a private word in the code, the documentation and the tests."""
    return [
        Finding(path, line, word) for path in texts(root) for line, word in words_in(read(path))
    ]


def words_in(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of every private word in `text`."""
    for match in PATTERN.finditer(text):
        if match["wrong"]:
            yield text.count("\n", 0, match.start()) + 1, re.sub(GAP, " ", match["wrong"])


def texts(root: Path = ROOT) -> list[Path]:
    """Every file that is written by hand."""
    found = [path for pattern in TEXTS for path in root.glob(pattern)]
    for folder in FOLDERS:
        found += [path for pattern in TEXTS for path in (root / folder).rglob(pattern)]
    left_out = {root / name for name in NOT_PROSE}
    return sorted(set(found) - left_out)


PATTERN = _pattern()
