"""The words and file formats of Bedrock messages, and the detection of formats.

The values of the enums are those of the Converse API. The format of a file is detected from its
first bytes, or else from its name; if the two disagree, the bytes win.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import PurePath
from typing import Final, NamedTuple, TypeVar

from agentkit.errors import RequestValidationError


class RolesEnum(StrEnum):
    """The author of a message."""

    USER = "user"
    ASSISTANT = "assistant"


class ImageFormatEnum(StrEnum):
    """Image formats of the Converse API."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    WEBP = "webp"


class DocumentFormatEnum(StrEnum):
    """Document formats of the Converse API."""

    PDF = "pdf"
    CSV = "csv"
    DOC = "doc"
    DOCX = "docx"
    XLS = "xls"
    XLSX = "xlsx"
    HTML = "html"
    TXT = "txt"
    MD = "md"


class VideoFormatEnum(StrEnum):
    """Video formats of the Converse API, and AVI, which is recognised and refused."""

    MP4 = "mp4"
    MOV = "mov"
    MKV = "mkv"
    WEBM = "webm"
    FLV = "flv"
    MPEG = "mpeg"
    MPG = "mpg"
    WMV = "wmv"
    THREE_GP = "three_gp"
    AVI = "avi"


class DetectionMethodEnum(StrEnum):
    """How a format was detected: from the content, the extension, both, or not at all."""

    CONTENT = "content"
    EXTENSION = "extension"
    COMBINED = "combined"
    MANUAL = "manual"


class ToolResultStatusEnum(StrEnum):
    """The outcome of a tool call."""

    SUCCESS = "success"
    ERROR = "error"


class GuardContentQualifierEnum(StrEnum):
    """What a guardrail takes text for."""

    GROUNDING_SOURCE = "grounding_source"
    QUERY = "query"
    GUARD_CONTENT = "guard_content"


class CachePointTTLEnum(StrEnum):
    """How long the prefix of a prompt stays cached."""

    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"


F = TypeVar("F", ImageFormatEnum, DocumentFormatEnum, VideoFormatEnum)


class Detected(NamedTuple):
    """A format, how it was detected, and with what confidence (0 to 1)."""

    format: ImageFormatEnum | DocumentFormatEnum | VideoFormatEnum
    method: DetectionMethodEnum
    confidence: float


_BOTH, _CONTENT, _NAME = 0.95, 0.75, 0.50
_KIND: Final[dict[type[StrEnum], str]] = {
    ImageFormatEnum: "image",
    DocumentFormatEnum: "document",
    VideoFormatEnum: "video",
}
_EXTENSIONS: Final = {
    **dict.fromkeys(("jpg", "jpe"), "jpeg"),
    **dict.fromkeys(("text", "log"), "txt"),
    **dict.fromkeys(("3gp", "3gpp", "3g2"), "three_gp"),
    "htm": "html",
    "markdown": "md",
    "m4v": "mp4",
    "qt": "mov",
}
_TEXTUAL: Final = {".md", ".markdown", ".txt", ".text", ".log", ".csv"}
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def detect(data: bytes, filename: str | None, kind: type[F]) -> Detected:
    """The format of `data`, a file called `filename`, among those of `kind`.

    The confidence is 0.95 if content and name agree, 0.75 for the content alone, and 0.50 for the
    name alone. Plain text formats (TXT, MD, CSV, HTML without a doctype) have no typical first
    bytes and are detected from the name.

    Raises:
        RequestValidationError: the format is unknown, or the service does not accept it.
    """
    found = content_format(data, filename, kind)
    named = extension_format(filename, kind)
    if found and named and _same(found, named):
        return Detected(named, DetectionMethodEnum.COMBINED, _BOTH)
    if found:
        return Detected(found, DetectionMethodEnum.CONTENT, _CONTENT)
    if named and not _is_of_another_kind(data, filename, kind):
        return Detected(named, DetectionMethodEnum.EXTENSION, _NAME)
    known = ", ".join(member.value for member in kind)
    problem = f"the {_KIND[kind]}{f' {filename!r}' if filename else ''} has an unknown format"
    raise RequestValidationError(
        problem,
        validation_errors=[problem],
        hint=f"pass format=…, or the name of the file; known formats: {known}",
    )


def extension_format(filename: str | None, kind: type[F]) -> F | None:
    """The format by the name alone, or None."""
    suffix = PurePath(filename).suffix.lstrip(".").lower() if filename else ""
    try:
        return kind(_EXTENSIONS.get(suffix, suffix))
    except ValueError:
        return None


def content_format(data: bytes, filename: str | None, kind: type[F]) -> F | None:
    """The format by the first bytes, or None; `filename` helps where formats share a container."""
    value = _DETECTORS[kind](data, filename)
    return kind(value) if value else None


def refuse_avi(format: object) -> None:  # noqa: A002 - the API's own word
    """Refuse AVI, which is recognised so that the error can say why.

    Raises:
        RequestValidationError: the format is AVI.
    """
    if format is VideoFormatEnum.AVI:
        problem = "the video is AVI, a format the Converse API does not accept"
        raise RequestValidationError(
            problem,
            validation_errors=[problem],
            hint="convert it to MP4 (ffmpeg -i in.avi out.mp4); also accepted: "
            + ", ".join(f.value for f in VideoFormatEnum if f is not VideoFormatEnum.AVI),
        )


def _is_of_another_kind(data: bytes, filename: str | None, kind: type[F]) -> bool:
    """Whether the content is another kind of file: a PDF called photo.png is not an image."""
    others: tuple[type[StrEnum], ...] = tuple(other for other in _KIND if other is not kind)
    return any(_DETECTORS[other](data, filename) for other in others)


def _same(found: str, named: str) -> bool:
    """MPEG and MPG are two names of one container."""
    return found == named or {found, named} <= {"mpeg", "mpg"}


def _image(data: bytes, _: str | None) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _document(data: bytes, filename: str | None) -> str | None:
    textual = bool(filename) and PurePath(str(filename)).suffix.lower() in _TEXTUAL
    # The standard allows a header within the first 1,024 bytes; other text may mention one.
    if data.startswith(b"%PDF-") or (b"%PDF-" in data[:1024] and not textual):
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return _office_zip(data)
    if data.startswith(_OLE):
        return _office_ole(data)
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return None if textual else "html"
    return None


def _office_zip(data: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return None
    for folder, format_ in (("word/", "docx"), ("xl/", "xlsx")):
        if any(name.startswith(folder) for name in names):
            return format_
    return None


def _office_ole(data: bytes) -> str | None:
    """DOC and XLS share a container; its directory names the main stream in UTF-16."""
    if "WordDocument".encode("utf-16-le") in data:
        return "doc"
    if any(name.encode("utf-16-le") in data for name in ("Workbook", "Book\x00")):
        return "xls"
    return None


def _video(data: bytes, _: str | None) -> str | None:
    boxed = data[:1] == b"\0"  # a box begins with its size; words like "The free" do not
    if boxed and data[4:8] == b"ftyp":
        brand = data[8:12]
        return "mov" if brand == b"qt  " else "three_gp" if brand[:2] == b"3g" else "mp4"
    if boxed and data[4:8] in {b"moov", b"mdat", b"wide", b"free"}:
        return "mov"  # QuickTime files from before brands existed
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in data[:64] else "mkv"
    if data.startswith(b"FLV\x01"):
        return "flv"
    if data.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")):
        return "mpeg"
    if data.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "wmv"
    return "avi" if data[:4] == b"RIFF" and data[8:12] == b"AVI " else None


_DETECTORS: Final[dict[type[StrEnum], Callable[[bytes, str | None], str | None]]] = {
    ImageFormatEnum: _image,
    DocumentFormatEnum: _document,
    VideoFormatEnum: _video,
}
