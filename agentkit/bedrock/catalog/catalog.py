"""The catalogue of Bedrock's models, their Regions and ids.

    catalog = BedrockModelCatalog()
    catalog.routes("Claude 3 Haiku", "us-east-1")

The data comes from the catalogue cache, or else from AWS, or else from the package. Nothing is read
or fetched at construction.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from agentkit._fork import fork_safe_lock
from agentkit.bedrock.catalog.api import Fetched, fetch, merge
from agentkit.bedrock.catalog.cache import (
    CacheMode,
    CatalogSource,
    FileCache,
    MemoryCache,
    Snapshot,
    bundled,
)
from agentkit.bedrock.catalog.model_ids import NameIndex, explicit_routes, is_explicit
from agentkit.bedrock.catalog.models import ModelAccessInfo, UnifiedModelInfo
from agentkit.errors import CatalogUnavailableError, LLMError
from agentkit.policy.validation import number, whole_number
from agentkit.providers.bedrock.auth import AuthConfig
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.regions import get_commercial_regions
from agentkit.providers.bedrock.routes import DEFAULT_PREFERENCE, ModelAccessMethod, ModelRoute
from agentkit.providers.bedrock.validation import member

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CatalogMetadata:
    """The source of the catalogue's data.

    Attributes:
        source: API, CACHE or BUNDLED.
        retrieval_timestamp: when it was made (UTC).
        api_regions_queried: the Regions that answered, when AWS was asked.
        bundled_data_version: the bundle's version, when it is the bundle.
        cache_file_path: the file of the catalogue cache, when there is one.
    """

    source: CatalogSource
    retrieval_timestamp: dt.datetime
    api_regions_queried: list[str]
    bundled_data_version: str | None
    cache_file_path: Path | None


class BedrockModelCatalog:
    """Looks up models. Safe to use from many threads.

    Args:
        auth_manager: an `AuthConfig` or `Clients`. Without one, AWS is asked only if the
            environment or the AWS configuration files have credentials.
        cache_mode: the location of the catalogue cache (default FILE).
        cache_directory: its folder (default: the user's cache directory).
        cache_max_age_hours: hours after which it is expired (default 24).
        force_refresh: do not read the catalogue cache.
        timeout: seconds to fetch the data of all Regions (default 30).
        max_workers: Regions to ask at once (default 10).
        fallback_to_bundled: use the data of the package when AWS does not answer (default); False
            raises `CatalogUnavailableError` instead.
        ignore_cache_age: use a catalogue cache of any age.
        use_api: False: only `refresh_catalog` asks AWS.
        regions: the Regions to ask (default: all commercial ones).
        now: the clock (aware datetimes); tests pass their own.

    Raises:
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        auth_manager: AuthConfig | Clients | None = None,
        cache_mode: CacheMode | str = CacheMode.FILE,
        cache_directory: str | os.PathLike[str] | None = None,
        cache_max_age_hours: float = 24.0,
        force_refresh: bool = False,
        timeout: float = 30,
        max_workers: int = 10,
        fallback_to_bundled: bool = True,
        *,
        ignore_cache_age: bool = False,
        use_api: bool = True,
        regions: Iterable[str] | None = None,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._mode = member("cache_mode", CacheMode, cache_mode)
        self._auth = auth_manager
        self._max_age = number("cache_max_age_hours", cache_max_age_hours) * 3600
        self._force_refresh = force_refresh
        self._timeout = number("timeout", timeout, above=True)
        self._max_workers = whole_number("max_workers", max_workers)
        self._fallback = fallback_to_bundled
        self._any_age = ignore_cache_age
        self._use_api = use_api
        self._regions = tuple(regions) if regions is not None else tuple(get_commercial_regions())
        self._now = now
        self._cache = self._cache_of(cache_directory)
        self._lock = fork_safe_lock()
        self._state: tuple[Snapshot, NameIndex] | None = None

    def _cache_of(self, directory: str | os.PathLike[str] | None) -> FileCache | MemoryCache | None:
        if self._mode is CacheMode.FILE:
            return FileCache(directory, self._max_age)
        if self._mode is CacheMode.MEMORY:
            auth = self._auth.auth if isinstance(self._auth, Clients) else self._auth
            return MemoryCache((auth, self._regions), self._max_age)
        return None

    @property
    def cache_mode(self) -> CacheMode:
        """The location of the catalogue cache."""
        return self._mode

    @property
    def cache_file_path(self) -> Path | None:
        """The file of the catalogue cache; None in the other modes."""
        return self._cache.path if isinstance(self._cache, FileCache) else None

    @property
    def is_catalog_loaded(self) -> bool:
        """Whether the data has been loaded."""
        return self._state is not None

    @overload
    def get_model_info(self, model_name: str) -> UnifiedModelInfo | None: ...
    @overload
    def get_model_info(self, model_name: str, region: None) -> UnifiedModelInfo | None: ...
    @overload
    def get_model_info(self, model_name: str, region: str) -> ModelAccessInfo | None: ...
    def get_model_info(
        self, model_name: str, region: str | None = None
    ) -> UnifiedModelInfo | ModelAccessInfo | None:
        """A model by name, id or ARN; with `region`, the ways to it from there.

        Both have `model_id`, `inference_profile_id` and `supports_streaming`. None if the model is
        unknown or cannot be reached from `region`.
        """
        model = self._index().find(model_name)
        return model if model is None or region is None else model.at(region)

    def get_model_access_info(self, model_name: str, region: str) -> ModelAccessInfo | None:
        """The ways to a model from `region`; None if it is unknown or cannot be reached."""
        return self.get_model_info(model_name, region)

    def is_model_available(self, model_name: str, region: str | None = None) -> bool:
        """Whether a model is known and can be reached, from `region` or from anywhere."""
        model = self._index().find(model_name)
        return model is not None and (region is None or model.at(region) is not None)

    def list_models(
        self,
        region: str | None = None,
        provider: str | None = None,
        streaming_only: bool = False,
        include_retired: bool = True,
    ) -> list[UnifiedModelInfo]:
        """The models that `region` reaches, of `provider` (in any letter case), sorted by name."""
        wanted = provider.casefold() if provider is not None else None
        return sorted(
            (
                model
                for model in self._snapshot().models
                if (region is None or model.at(region))
                and (wanted is None or model.provider.casefold() == wanted)
                and (model.streaming_supported or not streaming_only)
                and (include_retired or not model.retired)
            ),
            key=lambda model: (model.model_name, model.model_id),
        )

    def resolve(self, model_name: str) -> UnifiedModelInfo | None:
        """The model of a name; None for an id or ARN that the catalogue does not contain.

        Raises:
            UnknownModelError: no model has this name; the message suggests close ones.
        """
        return self._index().resolve(model_name)

    def routes(
        self,
        model_name: str,
        region: str,
        preference: Sequence[ModelAccessMethod] = DEFAULT_PREFERENCE,
    ) -> tuple[ModelRoute, ...]:
        """The ways to a model from `region`, the preferred first; empty if there is none.

        Global profiles are used only if `preference` names them. An id or ARN is used as it is.

        Raises:
            UnknownModelError: no model has this name.
        """
        model = self.resolve(model_name)
        if is_explicit(model_name):
            return explicit_routes(model_name, region, model)
        access = model.at(region) if model else None
        return access.routes(preference) if access else ()

    def get_catalog_metadata(self) -> CatalogMetadata:
        """The source of the data, which is loaded if necessary."""
        snapshot = self._snapshot()
        return CatalogMetadata(
            source=snapshot.source,
            retrieval_timestamp=snapshot.time,
            api_regions_queried=list(snapshot.regions),
            bundled_data_version=snapshot.version,
            cache_file_path=self.cache_file_path,
        )

    def ensure_catalog_available(self) -> None:
        """Load the data now.

        Raises:
            CatalogUnavailableError: no source answered, and the bundled data is not allowed.
        """
        self._snapshot()

    def refresh_catalog(self) -> CatalogMetadata:
        """Fetch the data from AWS and store it; if AWS does not answer, the old data stays.

        Raises:
            APIFetchError: no Region answered.
        """
        with self._lock:
            self._keep(self._fetch())
        return self.get_catalog_metadata()

    def clear_cache(self) -> None:
        """Empty the catalogue cache; the next use loads the data again."""
        with self._lock:
            self._state = None
            if self._cache is not None:
                self._cache.clear()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the data in the format of the bundled file, one model per line."""
        snapshot = self._snapshot()
        rows = ",\n".join(
            f"    {json.dumps(model.to_dict(), ensure_ascii=False)}" for model in snapshot.models
        )
        day = snapshot.time
        head = {"format": 1, "version": f"{day:%Y.%m.%d}", "generated": day.isoformat()}
        lines = "".join(f'  "{name}": {json.dumps(value)},\n' for name, value in head.items())
        Path(path).write_text(f'{{\n{lines}  "models": [\n{rows}\n  ]\n}}\n', encoding="utf-8")

    def _snapshot(self) -> Snapshot:
        return self._loaded()[0]

    def _index(self) -> NameIndex:
        return self._loaded()[1]

    def _loaded(self) -> tuple[Snapshot, NameIndex]:
        state = self._state
        if state is not None:
            return state
        with self._lock:
            return self._state or self._set(self._load())

    def _set(self, snapshot: Snapshot) -> tuple[Snapshot, NameIndex]:
        self._state = snapshot, NameIndex(snapshot.models)
        return self._state

    def _keep(self, snapshot: Snapshot) -> Snapshot:
        if self._cache is not None:
            self._cache.save(snapshot)
        return self._set(snapshot)[0]

    def _load(self) -> Snapshot:
        """The catalogue cache, AWS, an expired catalogue cache, the bundle: the first available."""
        if cached := self._from_cache(any_age=self._any_age):
            return cached
        if self._use_api and (self._auth is not None or _credentials_exist()):
            try:
                return self._fetch_once()
            except LLMError as error:
                reason = getattr(error, "message", str(error))
                _logger.warning("the model catalogue could not be refreshed: %s", reason)
                if not self._fallback:
                    raise CatalogUnavailableError(
                        f"the model catalogue is not available: {reason}", hint=error.hint
                    ) from error
                if cached := self._from_cache(any_age=True):
                    return cached
        if not self._fallback:
            raise CatalogUnavailableError(
                "the model catalogue is not available: there is no catalogue cache, and no "
                "credentials to ask AWS",
                hint="pass auth_manager=AuthConfig(…), or allow fallback_to_bundled",
            )
        return bundled()

    def _fetch_once(self) -> Snapshot:
        """Fetch the data; of several processes that share a cache, one does and the others wait."""
        if self._cache is None:
            return self._fetch()
        with self._cache.locked():
            return self._from_cache() or self._keep(self._fetch())

    def _from_cache(self, *, any_age: bool = False) -> Snapshot | None:
        if self._cache is None or self._force_refresh:
            return None
        return self._cache.load(self._now(), any_age=any_age)

    def _fetch(self) -> Snapshot:
        if isinstance(self._auth, Clients):
            fetched = self._fetch_with(self._auth)
        else:
            with Clients(self._auth) as own:
                fetched = self._fetch_with(own)
        now = self._now()
        known = self._state[0].models if self._state else bundled().models
        models = merge(known, fetched, now.date().isoformat())
        return Snapshot(models, CatalogSource.API, now, tuple(sorted(fetched.regions)))

    def _fetch_with(self, clients: Clients) -> Fetched:
        return fetch(clients, self._regions, timeout=self._timeout, max_workers=self._max_workers)


def _credentials_exist() -> bool:
    """Whether the environment or the files of AWS have credentials; sends nothing."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_BEARER_TOKEN_BEDROCK",
    )
    if any(os.environ.get(name) for name in names):
        return True
    given = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    try:
        return (Path(given) if given else Path.home() / ".aws" / "credentials").is_file()
    except (OSError, RuntimeError):
        return False
