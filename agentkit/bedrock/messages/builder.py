"""Messages of the Converse API, built block by block.

    message = create_user_message().add_text("What is this?").add_local_image("photo.jpg").build()

Every method returns the builder, checks its arguments immediately and reads no more than it needs.
Texts are stripped of white space at both ends.
"""

from __future__ import annotations

import copy
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from agentkit.bedrock.messages import blocks
from agentkit.bedrock.messages.files import check_size, read_file
from agentkit.bedrock.messages.formats import (
    CachePointTTLEnum,
    DocumentFormatEnum,
    GuardContentQualifierEnum,
    ImageFormatEnum,
    RolesEnum,
    ToolResultStatusEnum,
    VideoFormatEnum,
    detect,
    refuse_avi,
)
from agentkit.bedrock.messages.limits import (
    DOCUMENT_MB,
    IMAGE_MB,
    MAX_BLOCKS,
    MAX_CACHE_POINTS,
    MAX_OF_KIND,
    VIDEO_MB,
    byte_limit,
)
from agentkit.providers.bedrock.encoding import document_name
from agentkit.providers.bedrock.errors import invalid

_logger = logging.getLogger(__name__)
_NEARLY_FULL: Final = 80
"""Blocks from which a log line warns that a message holds at most 100."""
PathLike = str | os.PathLike[str]


class _Kind(NamedTuple):
    """A kind of file in a message."""

    name: str
    formats: Any
    most_mb: float


_IMAGE: Final = _Kind("image", ImageFormatEnum, IMAGE_MB)
_DOCUMENT: Final = _Kind("document", DocumentFormatEnum, DOCUMENT_MB)
_VIDEO: Final = _Kind("video", VideoFormatEnum, VIDEO_MB)


class MessageBuilder:
    """Collects the content blocks of one message.

    Args:
        role: who speaks.
        allowed_folder: if given, local files must be in it or below it, after following links.

    Raises:
        RequestValidationError: by every method, for what the service would refuse: too many
            blocks (100), images (20), documents (5) or videos (1), a file that is empty, too large
            or of an unknown format, images or documents of an assistant. Its `validation_errors`
            list the problems.
    """

    def __init__(self, role: RolesEnum | str, *, allowed_folder: PathLike | None = None) -> None:
        self._role: RolesEnum = blocks.member(RolesEnum, role, "role")
        self._allowed_folder = allowed_folder
        self._blocks: list[blocks.Block] = []
        self._counts: Counter[str] = Counter()
        self._names: set[str] = set()

    @property
    def role(self) -> RolesEnum:
        """Who speaks."""
        return self._role

    def add_text(self, text: str, cacheable: bool = False) -> Self:
        """Add text; `cacheable` adds a cache point after it."""
        if not isinstance(text, str):
            raise invalid(f"text must be a str, got {type(text).__name__}")
        stripped = text.strip()
        if not stripped:
            raise invalid("the text is empty or white space only")
        self._append({"text": stripped})
        return self.add_cache_point() if cacheable else self

    def add_image_bytes(
        self,
        data: bytes,
        format: ImageFormatEnum | str | None = None,  # noqa: A002 - the API's own word
        filename: str | None = None,
        max_size_mb: float = IMAGE_MB,
    ) -> Self:
        """Add an image; without `format`, it is detected from `data` and `filename`."""
        checked = _checked(_IMAGE, data, max_size_mb)
        return self._add_file(_IMAGE, checked, format, filename)

    def add_local_image(
        self,
        path: PathLike,
        format: ImageFormatEnum | str | None = None,  # noqa: A002
        max_size_mb: float = IMAGE_MB,
    ) -> Self:
        """Add an image from a file. Also raises FileNotFoundError."""
        data = self._read(_IMAGE, path, max_size_mb)
        return self._add_file(_IMAGE, data, format, os.fspath(path))

    def add_image_s3(
        self,
        uri: str,
        format: ImageFormatEnum | str,  # noqa: A002
        bucket_owner: str | None = None,
    ) -> Self:
        """Add an image in S3; `bucket_owner` is an account id of 12 digits."""
        return self._add_s3(_IMAGE, uri, format, bucket_owner)

    def add_document_bytes(
        self,
        data: bytes,
        format: DocumentFormatEnum | str | None = None,  # noqa: A002
        filename: str | None = None,
        name: str | None = None,
        max_size_mb: float = DOCUMENT_MB,
        citations_enabled: bool = False,
        context: str | None = None,
    ) -> Self:
        """Add a document.

        Its `name` (default: that of the file without its extension, else ``Document``) is changed
        to a form that the service accepts, see `agentkit.providers.bedrock.encoding.document_name`.
        `context` describes the document to the model; with `citations_enabled`, answers cite it.
        """
        checked = _checked(_DOCUMENT, data, max_size_mb)
        extra = self._document_fields(name, filename, citations_enabled, context)
        return self._add_file(_DOCUMENT, checked, format, filename, **extra)

    def add_local_document(
        self,
        path: PathLike,
        format: DocumentFormatEnum | str | None = None,  # noqa: A002
        name: str | None = None,
        max_size_mb: float = DOCUMENT_MB,
        citations_enabled: bool = False,
        context: str | None = None,
    ) -> Self:
        """Add a document from a file, like `add_document_bytes`. Also raises FileNotFoundError."""
        data = self._read(_DOCUMENT, path, max_size_mb)
        filename = os.fspath(path)
        extra = self._document_fields(name, filename, citations_enabled, context)
        return self._add_file(_DOCUMENT, data, format, filename, **extra)

    def add_document_s3(
        self,
        uri: str,
        format: DocumentFormatEnum | str,  # noqa: A002
        name: str | None = None,
        bucket_owner: str | None = None,
        citations_enabled: bool = False,
        context: str | None = None,
    ) -> Self:
        """Add a document in S3, like `add_document_bytes`."""
        extra = self._document_fields(name, uri, citations_enabled, context)
        return self._add_s3(_DOCUMENT, uri, format, bucket_owner, **extra)

    def add_video_bytes(
        self,
        data: bytes,
        format: VideoFormatEnum | str | None = None,  # noqa: A002
        filename: str | None = None,
        max_size_mb: float = VIDEO_MB,
    ) -> Self:
        """Add a video. AVI is recognised and refused: the service does not accept it."""
        checked = _checked(_VIDEO, data, max_size_mb)
        return self._add_file(_VIDEO, checked, format, filename)

    def add_local_video(
        self,
        path: PathLike,
        format: VideoFormatEnum | str | None = None,  # noqa: A002
        max_size_mb: float = VIDEO_MB,
    ) -> Self:
        """Add a video from a file. Also raises FileNotFoundError."""
        data = self._read(_VIDEO, path, max_size_mb)
        return self._add_file(_VIDEO, data, format, os.fspath(path))

    def add_video_s3(
        self,
        uri: str,
        format: VideoFormatEnum | str,  # noqa: A002
        bucket_owner: str | None = None,
    ) -> Self:
        """Add a video in S3."""
        return self._add_s3(_VIDEO, uri, format, bucket_owner)

    def add_cache_point(
        self, cache_type: str = "default", ttl: CachePointTTLEnum | str | None = None
    ) -> Self:
        """Let the service cache the prompt up to here: after a block, at most four per request."""
        block = blocks.build_cache_point(cache_type, ttl)
        if not self._blocks or "cachePoint" in self._blocks[-1]:
            raise invalid("a cache point must follow a block to cache")
        if self._counts["cachePoint"] == MAX_CACHE_POINTS:
            raise invalid(f"a request holds at most {MAX_CACHE_POINTS} cache points")
        return self._append(block)

    def add_guard_content(
        self,
        text: str,
        qualifiers: Iterable[GuardContentQualifierEnum | str] | None = None,
    ) -> Self:
        """Add text for a guardrail to assess."""
        return self._append(blocks.guard_content(text, qualifiers))

    def add_tool_use(self, tool_use_id: str, name: str, input: Mapping[str, Any]) -> Self:  # noqa: A002
        """Add a tool call of the assistant."""
        self._require(RolesEnum.ASSISTANT, "a tool use")
        return self._append(blocks.tool_use(tool_use_id, name, input))

    def add_tool_result(
        self,
        tool_use_id: str,
        content: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        status: ToolResultStatusEnum | str | None = None,
    ) -> Self:
        """Add the result of a tool: a string, a JSON object, or result blocks."""
        self._require(RolesEnum.USER, "a tool result")
        return self._append(blocks.tool_result(tool_use_id, content, status))

    def add_reasoning_content(
        self,
        text: str | None = None,
        signature: str | None = None,
        redacted_content: bytes | None = None,
    ) -> Self:
        """Add the reasoning of an earlier answer, unchanged."""
        self._require(RolesEnum.ASSISTANT, "reasoning")
        return self._append(blocks.reasoning(text, signature, redacted_content))

    def build(self) -> dict[str, Any]:
        """The message for the Converse API; later changes to the builder do not affect it.

        A document without text can be built, but a request with it is refused before it is sent.

        Raises:
            RequestValidationError: no content.
        """
        if not self._blocks:
            raise invalid("the message has no content", "add text or another block")
        return {"role": self._role.value, "content": copy.deepcopy(self._blocks)}

    def _add_file(
        self, kind: _Kind, data: bytes, given: Any, filename: str | None, **extra: Any
    ) -> Self:
        format_ = (
            detect(data, filename, kind.formats).format
            if given is None
            else blocks.member(kind.formats, given, "format")
        )
        return self._add_source(kind, format_, {"bytes": data}, extra)

    def _add_s3(
        self, kind: _Kind, uri: str, given: Any, bucket_owner: str | None, **extra: Any
    ) -> Self:
        format_ = blocks.member(kind.formats, given, f"{kind.name} format")
        return self._add_source(kind, format_, blocks.s3_source(uri, bucket_owner), extra)

    def _add_source(
        self, kind: _Kind, format_: StrEnum, source: blocks.Block, extra: blocks.Block
    ) -> Self:
        refuse_avi(format_)
        self._require(RolesEnum.USER, f"a {kind.name}")
        most = MAX_OF_KIND[kind.name]
        if self._counts[kind.name] == most:
            raise invalid(f"a message holds at most {most} blocks of kind {kind.name}")
        self._append({kind.name: {"format": format_.value, "source": source, **extra}})
        self._names.update({extra["name"]} if extra else ())
        return self

    def _document_fields(
        self, name: str | None, filename: str | None, citations: bool, context: str | None
    ) -> blocks.Block:
        given = name if name is not None else Path(filename).stem if filename else ""
        fields: blocks.Block = {"name": document_name(given, self._names)}
        if context is not None:
            fields["context"] = context
        if citations:
            fields["citations"] = {"enabled": True}
        return fields

    def _require(self, role: RolesEnum, what: str) -> None:
        if self._role is not role:
            raise invalid(f"the service accepts {what} from the {role.value} only")

    def _read(self, kind: _Kind, path: PathLike, max_size_mb: float) -> bytes:
        limit = byte_limit(kind.name, max_size_mb, kind.most_mb)
        return read_file(path, limit=limit, allowed_folder=self._allowed_folder)

    def _append(self, block: blocks.Block) -> Self:
        if len(self._blocks) == MAX_BLOCKS:
            raise invalid(f"a message holds at most {MAX_BLOCKS} blocks")
        self._blocks.append(block)
        self._counts.update(block.keys())
        if len(self._blocks) == _NEARLY_FULL:
            _logger.warning("the message has %d of %d blocks", _NEARLY_FULL, MAX_BLOCKS)
        return self


ConverseMessageBuilder = MessageBuilder
"""Another name for `MessageBuilder`."""


def create_message(
    role: RolesEnum | str, *, allowed_folder: PathLike | None = None
) -> MessageBuilder:
    """A builder for a message of `role`."""
    return MessageBuilder(role, allowed_folder=allowed_folder)


def create_user_message(*, allowed_folder: PathLike | None = None) -> MessageBuilder:
    """A builder for a message of the user."""
    return MessageBuilder(RolesEnum.USER, allowed_folder=allowed_folder)


def create_assistant_message() -> MessageBuilder:
    """A builder for a message of the assistant."""
    return MessageBuilder(RolesEnum.ASSISTANT)


def _checked(kind: _Kind, data: bytes, max_size_mb: float) -> bytes:
    limit = byte_limit(kind.name, max_size_mb, kind.most_mb)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise invalid(f"{kind.name} data must be bytes, got {type(data).__name__}")
    check_size(len(data), limit, f"the {kind.name}")
    return bytes(data)
