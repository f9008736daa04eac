"""The history of one call: every attempt and every skip, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias, overload

from agentkit.types.json_values import UNREADABLE, malformed

Outcome: TypeAlias = Literal["success", "failure", "abandoned", "skipped"]
_TOTALS: Final = ("cache", "waited", "slept", "duration", "answered_by")
CacheResult: TypeAlias = Literal["off", "bypass", "miss", "hit", "shared", "error"]


_OTHER = "_OTHER"
"""Telemetry's name of an error without a type of its own, for which people read the class."""


class Entry(NamedTuple):
    """One attempt at a model, or a skip with its reason. All times are in seconds."""

    model: str
    """The registered name of the model."""
    provider: str
    """The name of its provider."""
    outcome: Outcome
    """How the attempt ended; ``skipped`` if nothing was sent."""
    number: int = 0
    """The number of the attempt at this model in this request, from 1; 0 for a skip."""
    started: float = 0.0
    """Start of the attempt, counted from the beginning of the request."""
    duration: float = 0.0
    """Time from the start of the attempt to its end."""
    delay: float = 0.0
    """Back-off before the attempt."""
    waited: float = 0.0
    """Time spent waiting for a free slot before the attempt."""
    error: str | None = None
    """The name of the error's class."""
    error_type: str | None = None
    """The kind of error, from telemetry's closed list: ``"429"``, ``"timeout"``, …"""
    status: int | None = None
    """The HTTP status of a failure, or None."""
    reason: str | None = None
    """Why the model was skipped or the attempt abandoned.

    For an attempt that timed out at no timeout of the model's own: ``deadline`` or ``time_share``,
    which limited it.
    """
    breaker: str = "closed"
    """State of the model's circuit breaker when it admitted or rejected the attempt."""
    cache: CacheResult = "off"
    """Result of the response cache's look-up for this model before the attempt."""
    input_tokens: int = 0
    """Input tokens, as counted by the provider."""
    output_tokens: int = 0
    """Output tokens, as counted by the provider."""
    position: int = 0
    """Position of the model in the route, from 0."""
    first_token: float | None = None
    """For a stream, the time from the start of the attempt to the first content."""
    omitted: tuple[str, ...] = ()
    """Parameters and other parts of the request that the provider left out."""
    details: Mapping[str, Any] | None = None
    """Additional information from the provider about the attempt.

    For a model that was skipped, ``fleet`` says until when the circuit of its fleet is open.
    """
    model_id: str = ""
    """The provider's own name of the model: as its response names it, else as it was requested."""
    cache_read_tokens: int = 0
    """The part of the input tokens that the provider read from a prompt cache."""
    cache_write_tokens: int = 0
    """The part of the input tokens that the provider wrote to a prompt cache."""
    reasoning_tokens: int = 0
    """The part of the output tokens that the model spent on reasoning."""
    cost: float | None = None
    """US dollars for the attempt; None if the price of the model is unknown."""
    cost_estimated: bool = False
    """Whether the provider did not report what `cost` is for.

    Then it is computed from the length of the texts, for an attempt that was abandoned, timed out
    or broke off; or the price has no rate for cached tokens, so that the rate of the input stands
    in. The 0.0 of an attempt that was refused with an HTTP status is certain.
    """

    @property
    def kind(self) -> str | None:
        """`error_type` for people: the class of an error that telemetry has no type for."""
        return self.error if self.error_type == _OTHER else self.error_type

    @property
    def sent(self) -> bool:
        """Whether this is an attempt, not a skip."""
        return self.number > 0


class Ledger(Sequence[Entry]):
    """A sequence of entries, attached to every `Response` and every error.

    Attributes:
        cache: result of the response cache's look-up for the model that answered, or for the one
            that was tried last.
        waited: seconds spent waiting for slots.
        slept: seconds of back-off.
        duration: seconds from start to end, set at the end.
        answered_by: the model that answered, or None.
    """

    __slots__ = ("_entries", "answered_by", "cache", "duration", "slept", "waited")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries = [*entries]
        self.cache: CacheResult = "off"
        self.waited = 0.0
        self.slept = 0.0
        self.duration = 0.0
        self.answered_by: str | None = None

    def record(self, entry: Entry) -> None:
        """Append `entry`. The engine calls this, in order."""
        self._entries.append(entry)

    @property
    def sent(self) -> tuple[Entry, ...]:
        """The attempts, without the skips."""
        return tuple(entry for entry in self._entries if entry.number)

    @property
    def retries(self) -> int:
        """The number of attempts after the first one at each model."""
        return sum(entry.number > 1 for entry in self._entries)

    @property
    def cost(self) -> float | None:
        """US dollars for all attempts; None if one of them has no known cost.

        0.0 for a response from the response cache or of a shared call, for which nothing was sent.
        """
        if not self._entries and self.cache not in ("hit", "shared"):
            return None
        total = 0.0
        for entry in self._entries:
            if entry.number:
                if entry.cost is None:
                    return None
                total += entry.cost
        return total

    @property
    def cost_estimated(self) -> bool:
        """Whether the cost of an attempt is an estimate."""
        return any(entry.cost_estimated for entry in self._entries)

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

    def to_dict(self) -> dict[str, Any]:
        """The ledger as a JSON value, without the `details` of its entries."""
        entries = [{**each._asdict(), "omitted": list(each.omitted)} for each in self._entries]
        for entry in entries:
            del entry["details"]
        return {"entries": entries, **{name: getattr(self, name) for name in _TOTALS}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError` for a dict of another form."""
        try:
            ledger = cls([_entry(each) for each in data["entries"]])
            for name in _TOTALS:
                setattr(ledger, name, data[name])
        except UNREADABLE as exc:
            raise malformed("ledger") from exc
        return ledger

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        if not self._entries:
            return f"{self.answered_by} (response cache)" if self.cache == "hit" else "nothing sent"
        brief = " · ".join(_brief(entry) for entry in self._entries)
        if self.cache in ("hit", "shared"):
            brief += f" · {self.answered_by} ✓ ({self.cache})"
        return brief

    def __repr__(self) -> str:
        return f"<Ledger {self}>"

    def explain(self) -> str:
        """The history as text: a line for each attempt and skip, then the totals."""
        shown = self._entries if len(self._entries) <= 20 else self._entries[:17]
        lines = [_line(entry) for entry in shown]
        if len(shown) < len(self._entries):
            lines.append(f"  … {len(self._entries) - len(shown)} more")
        if self.cache in ("hit", "shared"):
            source = "the response cache" if self.cache == "hit" else "an identical call"
            lines.append(f"  response of {self.answered_by} from {source}")
        end = f"answered by {self.answered_by}" if self.answered_by else "no answer"
        totals = [_count(len(self.sent), "attempt", "attempts")]
        if self.retries:
            totals.append(_count(self.retries, "retry", "retries"))
        if self.slept:
            totals.append(f"{self.slept:.3f} s of back-off")
        if self.waited:
            totals.append(f"{self.waited:.3f} s waiting for slots")
        if cost := self.cost:
            totals.append(_usd(cost, estimated=self.cost_estimated))
        return "\n".join([*lines, f"{end} in {self.duration:.3f} s: {', '.join(totals)}"])


def _entry(data: Mapping[str, Any]) -> Entry:
    known = {name: data[name] for name in Entry._fields if name in data}
    return Entry(**{**known, "omitted": tuple(data.get("omitted", ()))})


def _brief(entry: Entry) -> str:
    mark = {"success": "✓", "failure": "✗", "abandoned": "–", "skipped": "↷"}[entry.outcome]
    why = entry.reason if entry.outcome == "skipped" else entry.kind
    return f"{entry.model} {mark}" + (f" {why}" if why else "")


def _line(entry: Entry) -> str:
    start = f"  {entry.started:8.3f} s  {entry.model}"
    if not entry.sent:
        fleet = (entry.details or {}).get("fleet")
        return f"{start}: skipped, {entry.reason}" + (f" ({fleet})" if fleet else "")
    parts = [f"{_result(entry)} in {entry.duration:.3f} s"]
    if entry.reason == "time_share":
        parts.append("its share of the time")
    if entry.delay:
        parts.append(f"back-off {entry.delay:.3f} s")
    if entry.outcome == "success" and (entry.input_tokens or entry.output_tokens):
        parts.append(f"{entry.input_tokens}+{entry.output_tokens} tokens")
    if entry.cost:
        parts.append(_usd(entry.cost, estimated=entry.cost_estimated))
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


def _usd(cost: float, *, estimated: bool) -> str:
    amount = f"{cost:.6f}".rstrip("0").rstrip(".")
    return f"{'about ' if estimated else ''}{amount} USD"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
