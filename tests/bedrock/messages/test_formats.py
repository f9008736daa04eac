"""A file's format is what its bytes say, then what its name says, and never another kind's."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.bedrock.messages.formats import (
    CachePointTTLEnum,
    DetectionMethodEnum,
    DocumentFormatEnum,
    GuardContentQualifierEnum,
    ImageFormatEnum,
    ToolResultStatusEnum,
    VideoFormatEnum,
    detect,
)
from agentkit.errors import RequestValidationError
from tests.bedrock.messages import samples as s

I, D, V = ImageFormatEnum, DocumentFormatEnum, VideoFormatEnum  # noqa: E741

CONTENT: list[tuple[bytes, Any, str]] = [
    (s.PNG, I, "png"),
    (s.GIF, I, "gif"),
    (s.WEBP, I, "webp"),
    (s.JPEG_JFIF, I, "jpeg"),
    (s.JPEG_EXIF, I, "jpeg"),
    (s.JPEG_ICC, I, "jpeg"),
    (s.PDF, D, "pdf"),
    (s.DOC, D, "doc"),
    (s.XLS, D, "xls"),
    (s.DOCX, D, "docx"),
    (s.XLSX, D, "xlsx"),
    (s.HTML, D, "html"),
    (s.MP4, V, "mp4"),
    (s.MP4_ISOM, V, "mp4"),
    (s.MOV, V, "mov"),
    (s.MOV_OLD, V, "mov"),
    (s.THREE_GP, V, "three_gp"),
    (s.MKV, V, "mkv"),
    (s.WEBM, V, "webm"),
    (s.FLV, V, "flv"),
    (s.MPEG, V, "mpeg"),
    (s.WMV, V, "wmv"),
    (s.AVI, V, "avi"),
]

NAMES: list[tuple[str, Any, str]] = [
    ("a.jpg", I, "jpeg"),
    ("a.JPEG", I, "jpeg"),
    ("a.png", I, "png"),
    ("a.gif", I, "gif"),
    ("a.webp", I, "webp"),
    ("a.pdf", D, "pdf"),
    ("a.csv", D, "csv"),
    ("a.doc", D, "doc"),
    ("a.docx", D, "docx"),
    ("a.xls", D, "xls"),
    ("a.xlsx", D, "xlsx"),
    ("a.html", D, "html"),
    ("a.htm", D, "html"),
    ("a.txt", D, "txt"),
    ("a.md", D, "md"),
    ("a.mp4", V, "mp4"),
    ("a.mov", V, "mov"),
    ("a.mkv", V, "mkv"),
    ("a.webm", V, "webm"),
    ("a.flv", V, "flv"),
    ("a.mpeg", V, "mpeg"),
    ("a.mpg", V, "mpg"),
    ("a.wmv", V, "wmv"),
    ("a.3gp", V, "three_gp"),
    ("a.avi", V, "avi"),
]


@pytest.mark.promise("B13", "S0-25", "S1-05")
@pytest.mark.parametrize(("data", "kind", "format_"), CONTENT)
def test_the_bytes_alone_tell_the_format(data: bytes, kind: Any, format_: str) -> None:
    result = detect(data, None, kind)
    assert (result.format.value, result.method, result.confidence) == (format_, "content", 0.75)


@pytest.mark.promise("S1-04")
@pytest.mark.parametrize(("name", "kind", "format_"), NAMES)
def test_the_name_alone_is_enough(name: str, kind: Any, format_: str) -> None:
    result = detect(b"plain words", name, kind)
    assert (result.format.value, result.method, result.confidence) == (format_, "extension", 0.5)


def test_content_and_name_that_agree_are_surest() -> None:
    result = detect(s.PNG, "chart.png", I)
    assert result == (I.PNG, DetectionMethodEnum.COMBINED, 0.95)
    assert detect(s.MPEG, "clip.mpg", V).format is V.MPG


def test_the_bytes_win_over_a_wrong_name() -> None:
    assert detect(s.XLSX, "report.docx", D).format is D.XLSX
    assert detect(s.JPEG_JFIF, "photo.png", I).format is I.JPEG


def test_text_that_contains_html_or_mentions_pdf_has_the_format_of_its_name() -> None:
    assert detect(s.HTML, "page.md", D).format is D.MD
    assert detect(b"the header is %PDF-1.7", "notes.txt", D).format is D.TXT
    assert detect(b"\n\n%PDF-1.4", None, D).format is D.PDF


@pytest.mark.parametrize("words", [b"The free lunch", b"The ftyp box", b"Run wide of it"])
def test_words_that_look_like_a_video_are_words(words: bytes) -> None:
    assert detect(words, "notes.txt", D).format is D.TXT


def test_a_file_of_another_kind_is_refused_whatever_its_name() -> None:
    with pytest.raises(RequestValidationError, match="unknown format"):
        detect(s.PDF, "photo.png", I)


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestValidationError, match=r"pdf, csv") as caught:
        detect(b"PK\x03\x04 broken zip", "file.bin", D)
    assert caught.value.validation_errors


@pytest.mark.promise("S1-08", "S1-09")
@pytest.mark.parametrize(
    ("enum", "shape", "extra"),
    [
        (I, "ImageFormat", set()),
        (D, "DocumentFormat", set()),
        (V, "VideoFormat", {"avi"}),
        (ToolResultStatusEnum, "ToolResultStatus", set()),
        (CachePointTTLEnum, "CacheTTL", set()),
        (GuardContentQualifierEnum, "GuardrailConverseContentQualifier", set()),
    ],
)
def test_the_enums_are_those_of_the_service(enum: Any, shape: str, extra: set[str]) -> None:
    assert {member.value for member in enum} == s.enum_of(shape) | extra
