"""Friendly names, model ids, profile ids and ARNs, and the models they stand for.

Letter case, punctuation and the order of the words of a name do not matter, and it may start with
the provider. Nothing is guessed; an unknown name is an error that suggests close ones.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from agentkit.bedrock.catalog.models import GLOBAL, UnifiedModelInfo
from agentkit.errors import UnknownModelError
from agentkit.providers.bedrock.routes import ModelAccessMethod, ModelRoute

_GEOGRAPHIES: Final = ("us-gov", "us", "eu", "apac", "jp", "au", "ca", "in", "global")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:(bedrock|sagemaker):([a-z0-9-]*):[0-9]*:.+")
_ID: Final = re.compile(r"[a-z0-9-]+\.[a-z][a-z0-9._:-]*")
_VERSION: Final = re.compile(r"-v[0-9]+(:[0-9]+)?$")
Key = tuple[str, ...]


def is_explicit(text: str) -> bool:
    """Whether `text` is an ARN, a model id or a profile id, which are used as they are."""
    return bool(_ARN.fullmatch(text) or _ID.fullmatch(text))


def base_id(text: str) -> str:
    """The id of the model in an ARN, a profile id or a model id."""
    last = text.rsplit("/", 1)[-1] if text.startswith("arn:") else text
    head, _, rest = last.partition(".")
    return rest if head in _GEOGRAPHIES and "." in rest else last


def explicit_routes(
    text: str, region: str, known: UnifiedModelInfo | None
) -> tuple[ModelRoute, ...]:
    """The ways to an id or ARN: as it is; for a plain model id, also its regional profile.

    An ARN of another Region cannot be reached from `region`.
    """
    if arn := _ARN.fullmatch(text):
        place = arn[2]
        return (ModelRoute(_method(text), text),) if place in {"", region} else ()
    if base_id(text) != text:
        return (ModelRoute(_method(text), text),)
    access = known.at(region) if known else None
    spare = access.routes((ModelAccessMethod.REGIONAL_CRIS,)) if access else ()
    if access and spare and not access.has_direct_access:
        return spare  # here the service refuses the plain id and requires the profile's
    return (ModelRoute(ModelAccessMethod.DIRECT, text), *spare)


def _method(text: str) -> ModelAccessMethod:
    last = text.rsplit("/", 1)[-1]
    if last.startswith(GLOBAL):
        return ModelAccessMethod.GLOBAL_CRIS
    profile = base_id(last) != last or ":inference-profile/" in text
    return ModelAccessMethod.REGIONAL_CRIS if profile else ModelAccessMethod.DIRECT


def name_key(name: str) -> Key:
    """The sorted words of a name in lower case, with ``3 5`` and ``3-5`` as ``3.5``."""
    words = re.sub(r"[^a-z0-9+.]+", " ", name.casefold()).split()
    joined: list[str] = []
    for word in (stripped for one in words if (stripped := one.strip("."))):
        if joined and re.fullmatch(r"[0-9]", word) and re.fullmatch(r"[0-9]", joined[-1]):
            joined[-1] += f".{word}"
        else:
            joined.append(word)
    return tuple(sorted(joined))


class NameIndex:
    """Finds models by name or id.

    Of several models with one name, one that is still offered wins, then the one with the last id.
    """

    def __init__(self, models: Iterable[UnifiedModelInfo]) -> None:
        ordered = sorted(models, key=lambda model: model.model_id, reverse=True)
        ordered.sort(key=lambda model: model.retired)
        self.by_id = {model.model_id: model for model in ordered}
        self._by_name: dict[Key, UnifiedModelInfo] = {}
        for model in ordered:
            self._by_name.setdefault(name_key(model.model_name), model)
            self._by_name.setdefault(name_key(f"{model.provider} {model.model_name}"), model)
        for model in ordered:  # an id without its version is a name as well, unless a model has it
            name = _VERSION.sub("", model.model_id).split(".", 1)[-1]
            self._by_name.setdefault(name_key(name), model)
        self.names = sorted({model.model_name for model in ordered})

    def find(self, name: str) -> UnifiedModelInfo | None:
        """The model of a name, id or ARN, or None."""
        if is_explicit(name):
            return self.by_id.get(base_id(name))
        return self._by_name.get(name_key(name))

    def resolve(self, name: object) -> UnifiedModelInfo | None:
        """The model of a name; None for an id or ARN that the catalogue does not contain.

        Raises:
            UnknownModelError: no model has this name.
        """
        found = self.find(name) if isinstance(name, str) else None
        if found is None and not (isinstance(name, str) and is_explicit(name)):
            raise UnknownModelError(
                f"no Bedrock model is called {name!r}" + self._suggest(str(name)),
                hint="use a name of the catalogue (list_models), or a model id or ARN; "
                "refresh_catalog() fetches new models",
            )
        return found

    def _suggest(self, name: str) -> str:
        lower = {one.casefold(): one for one in self.names}
        close = difflib.get_close_matches(name.casefold(), lower, n=3, cutoff=0.6)
        return f"; close: {', '.join(lower[one] for one in close)}" if close else ""
