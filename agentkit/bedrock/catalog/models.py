"""The models of the catalogue, and the ways to reach them from a Region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agentkit.providers.bedrock.routes import DEFAULT_PREFERENCE, ModelAccessMethod, ModelRoute

GLOBAL: Final = "global."


@dataclass(frozen=True, slots=True)
class ModelAccessInfo:
    """The ways to a model from one Region."""

    region: str
    model_name: str
    model_id: str
    has_direct_access: bool
    regional_cris_profile_id: str | None
    global_cris_profile_id: str | None
    supports_streaming: bool

    @property
    def inference_profile_id(self) -> str | None:
        """The regional profile's id, else the global one's."""
        return self.regional_cris_profile_id or self.global_cris_profile_id

    @property
    def access_methods(self) -> list[ModelAccessMethod]:
        """The possible methods, in the default order, global last."""
        every = (*DEFAULT_PREFERENCE, ModelAccessMethod.GLOBAL_CRIS)
        return [route.method for route in self.routes(every)]

    def routes(
        self, preference: Sequence[ModelAccessMethod] = DEFAULT_PREFERENCE
    ) -> tuple[ModelRoute, ...]:
        """The possible routes among those of `preference`, in its order."""
        ids = {
            ModelAccessMethod.REGIONAL_CRIS: self.regional_cris_profile_id,
            ModelAccessMethod.DIRECT: self.model_id if self.has_direct_access else None,
            ModelAccessMethod.GLOBAL_CRIS: self.global_cris_profile_id,
        }
        wanted = (ModelAccessMethod(one) for one in preference)
        return tuple(ModelRoute(method, id_) for method in wanted if (id_ := ids[method]))

    def to_dict(self) -> dict[str, Any]:
        """access_methods, model_id, regional_cris_profile_id, global_cris_profile_id, region."""
        return {
            "access_methods": [method.value for method in self.access_methods],
            "model_id": self.model_id,
            "regional_cris_profile_id": self.regional_cris_profile_id,
            "global_cris_profile_id": self.global_cris_profile_id,
            "region": self.region,
        }


@dataclass(frozen=True, slots=True)
class UnifiedModelInfo:
    """One model: its ids, its modalities, and the Regions that can reach it.

    Attributes:
        model_name: the friendly name.
        provider: its maker.
        model_id: its own id.
        input_modalities, output_modalities: ``text``, ``image``, ``video``, …
        streaming_supported: whether its answers can be streamed.
        direct: Regions in which requests may use `model_id`.
        profiles: for the id of each inference profile, the Regions that can use it.
        retired: the service no longer offers it, as far as the source knows.
        end_of_life: the day (ISO) after which requests fail, where it is known.
        source, date: the source of these data, and their day (ISO).
    """

    model_id: str
    model_name: str
    provider: str
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    streaming_supported: bool = False
    direct: frozenset[str] = frozenset()
    profiles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    retired: bool = False
    end_of_life: str | None = None
    source: str = ""
    date: str = ""

    @property
    def supports_streaming(self) -> bool:
        """The same as `streaming_supported`."""
        return self.streaming_supported

    @property
    def regions(self) -> list[str]:
        """Every Region that can reach it, sorted."""
        return sorted(self.direct.union(*self.profiles.values()))

    @property
    def inference_profile_id(self) -> str | None:
        """The profile of the most Regions, regional before global; None without any."""
        ids = sorted(
            self.profiles, key=lambda id_: (id_.startswith(GLOBAL), -len(self.profiles[id_]), id_)
        )
        return ids[0] if ids else None

    def at(self, region: str) -> ModelAccessInfo | None:
        """The ways to it from `region`, or None."""
        here = [id_ for id_, regions in self.profiles.items() if region in regions]
        if not here and region not in self.direct:
            return None
        # The narrowest profile keeps data closest.
        regional = sorted(
            (id_ for id_ in here if not id_.startswith(GLOBAL)),
            key=lambda id_: (len(self.profiles[id_]), id_),
        )
        worldwide = [id_ for id_ in here if id_.startswith(GLOBAL)]
        return ModelAccessInfo(
            region=region,
            model_name=self.model_name,
            model_id=self.model_id,
            has_direct_access=region in self.direct,
            regional_cris_profile_id=regional[0] if regional else None,
            global_cris_profile_id=worldwide[0] if worldwide else None,
            supports_streaming=self.streaming_supported,
        )

    def to_dict(self) -> dict[str, Any]:
        """The model as a row of the catalogue's files."""
        row: dict[str, Any] = {
            "id": self.model_id,
            "name": self.model_name,
            "provider": self.provider,
            "input": list(self.input_modalities),
            "output": list(self.output_modalities),
            "streaming": self.streaming_supported,
            "direct": sorted(self.direct),
            "profiles": {id_: sorted(at) for id_, at in sorted(self.profiles.items())},
            "source": self.source,
            "date": self.date,
        }
        if self.end_of_life:
            row["end_of_life"] = self.end_of_life
        if self.retired:
            row["retired"] = True
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> UnifiedModelInfo:
        """The model of a row.

        Raises:
            KeyError, TypeError, ValueError: the row is invalid.
        """
        return cls(
            model_id=_text(row["id"]),
            model_name=_text(row["name"]),
            provider=_text(row["provider"]),
            input_modalities=_texts(row["input"]),
            output_modalities=_texts(row["output"]),
            streaming_supported=bool(row["streaming"]),
            direct=frozenset(_texts(row["direct"])),
            profiles={
                _text(id_): frozenset(_texts(at)) for id_, at in dict(row["profiles"]).items()
            },
            retired=bool(row.get("retired", False)),
            end_of_life=row.get("end_of_life"),
            source=_text(row["source"]),
            date=_text(row["date"]),
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a str, got {value!r}")
    return value


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"expected a list, got {values!r}")
    return tuple(map(_text, values))
