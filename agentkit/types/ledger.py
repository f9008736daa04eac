"""What one call did: every attempt and every skip, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, overload

Outcome: TypeAlias = Literal["success", "failure", "abandoned", "skipped"]
CacheResult: TypeAlias = Literal["off", "bypass", "miss", "hit", "shared", "error"]


class Entry(NamedTuple):
    """One attempt at a model, or the reason why it was skipped. All times in seconds."""

    model: str
    """The registered name of the model."""
    provider: str
    """The name of its provider."""
    outcome: Outcome
    """How the attempt ended, or that the model was skipped."""
    number: int = 0
    """Which attempt at this model in this request, from 1; 0 for a skip."""
    started: float = 0.0
    """Since the request began."""
    duration: float = 0.0
    """From the attempt's start to its end."""
    delay: float = 0.0
    """Back-off slept before it."""
    waited: float = 0.0
    """Waited for a free slot before it."""
    error: str | None = None
    """The class of the error."""
    error_type: str | None = None
    """The closed, low-cardinality list that telemetry uses: ``"429"``, ``"timeout"``, …"""
    status: int | None = None
    """The HTTP status of a failure, or None."""
    reason: str | None = None
    """Why a model was skipped, or why an attempt was let go of."""
    breaker: str = "closed"
    """State of the model's circuit breaker when it was admitted or refused."""
    cache: CacheResult = "off"
    """What the response cache said for this model before the attempt."""
    input_tokens: int = 0
    """As the provider counted them."""
    output_tokens: int = 0
    """As the provider counted them."""
    position: int = 0
    """Position of the model in the route, from 0."""
    first_token: float | None = None
    """Of a stream: from the attempt's start to its first content."""
    omitted: tuple[str, ...] = ()
    """What the provider left out of the request, with the caller's leave."""
    details: Mapping[str, Any] | None = None
    """What the provider says about the attempt, where it says more than the fields above."""

    @property
    def sent(self) -> bool:
        """True for attempts, false for skips."""
        return self.number > 0


class Ledger(Sequence[Entry]):
    """A call's history: a sequence of entries, on every `Response` and every error.

    Attributes:
        cache: the response cache's verdict for the model that answered (or was tried last).
        waited: seconds spent waiting for slots.
        slept: seconds of back-off.
        duration: seconds from start to end, set at the end.
        answered_by: the model that answered, or None.
    """

    __slots__ = ("_entries", "answered_by", "cache", "duration", "slept", "waited")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries = list(entries)
        self.cache: CacheResult = "off"
        self.waited = 0.0
        self.slept = 0.0
        self.duration = 0.0
        self.answered_by: str | None = None

    def record(self, entry: Entry) -> None:
        """Append `entry`; the engine calls this, in order."""
        self._entries.append(entry)

    @property
    def sent(self) -> tuple[Entry, ...]:
        """The attempts, without the skips."""
        return tuple(entry for entry in self._entries if entry.number)

    @property
    def retries(self) -> int:
        """Attempts after the first on one model."""
        return sum(entry.number > 1 for entry in self._entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        if not self._entries:
            return f"{self.answered_by} (response cache)" if self.cache == "hit" else "nothing sent"
        story = " · ".join(_brief(entry) for entry in self._entries)
        if self.cache in ("hit", "shared"):
            story += f" · {self.answered_by} ✓ ({self.cache})"
        return story

    def __repr__(self) -> str:
        return f"<Ledger {self}>"

    def explain(self) -> str:
        """What happened, as text: a line for each attempt and skip, then the totals."""
        shown = self._entries if len(self._entries) <= 20 else self._entries[:17]
        lines = [_line(entry) for entry in shown]
        if len(shown) < len(self._entries):
            lines.append(f"  … {len(self._entries) - len(shown)} more")
        if self.cache in ("hit", "shared"):
            source = "the response cache" if self.cache == "hit" else "an identical call"
            lines.append(f"  answer of {self.answered_by} from {source}")
        end = f"answered by {self.answered_by}" if self.answered_by else "no answer"
        totals = [_count(len(self.sent), "attempt", "attempts")]
        if self.retries:
            totals.append(_count(self.retries, "retry", "retries"))
        if self.slept:
            totals.append(f"{self.slept:.3f} s of back-off")
        if self.waited:
            totals.append(f"{self.waited:.3f} s waiting for slots")
        return "\n".join([*lines, f"{end} in {self.duration:.3f} s: {', '.join(totals)}"])


def _brief(entry: Entry) -> str:
    mark = {"success": "✓", "failure": "✗", "abandoned": "–", "skipped": "↷"}[entry.outcome]
    why = entry.reason if entry.outcome == "skipped" else entry.error_type
    return f"{entry.model} {mark}" + (f" {why}" if why else "")


def _line(entry: Entry) -> str:
    start = f"  {entry.started:8.3f} s  {entry.model}"
    if not entry.sent:
        return f"{start}: skipped, {entry.reason}"
    parts = [f"{_result(entry)} in {entry.duration:.3f} s"]
    if entry.delay:
        parts.append(f"back-off {entry.delay:.3f} s")
    if entry.outcome == "success" and (entry.input_tokens or entry.output_tokens):
        parts.append(f"{entry.input_tokens}+{entry.output_tokens} tokens")
    if entry.omitted:
        parts.append(f"without {', '.join(entry.omitted)}")
    if entry.breaker != "closed":
        parts.append(f"breaker {entry.breaker}")
    return f"{start} #{entry.number}: {', '.join(parts)}"


def _result(entry: Entry) -> str:
    if entry.outcome == "success":
        return "answered"
    error = entry.error or entry.outcome
    return f"{error} {entry.status}" if entry.status else error


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
