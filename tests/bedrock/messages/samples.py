"""The smallest real files of each format, and botocore's own validator of requests."""

from __future__ import annotations

import functools
import io
import zipfile
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
GIF = b"GIF89a" + b"\0" * 16
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 16
JPEG_JFIF = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 16
JPEG_EXIF = b"\xff\xd8\xff\xe1\0\x10Exif\0" + b"\0" * 16
JPEG_ICC = b"\xff\xd8\xff\xe2\0\x10ICC_PROFILE\0" + b"\0" * 16
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"0" * 16
HTML = b"<!DOCTYPE html>\n<html><body>hi</body></html>"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512
DOC = _OLE + "WordDocument".encode("utf-16-le")
XLS = _OLE + "Workbook".encode("utf-16-le")
MP4_ISOM = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
MOV = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "
MOV_OLD = b"\0\0\0\x08wide\0\0\0\x10mdat"
THREE_GP = b"\0\0\0\x18ftyp3gp5\0\0\0\0"
MKV = b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska" + b"\0" * 16
WEBM = b"\x1a\x45\xdf\xa3\x93\x42\x82\x84webm" + b"\0" * 16
FLV = b"FLV\x01\x05" + b"\0" * 16
MPEG = b"\0\0\x01\xba\x44" + b"\0" * 16
WMV = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9" + b"\0" * 16
AVI = b"RIFF\x24\0\0\0AVI LIST" + b"\0" * 16


def office(folder: str) -> bytes:
    """A zip as Word (``word``) or Excel (``xl``) write it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(f"{folder}/main.xml", "<x/>")
    return buffer.getvalue()


DOCX = office("word")
XLSX = office("xl")


@functools.cache
def _runtime_model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("bedrock-runtime")


def enum_of(shape: str) -> set[str]:
    """The values that the service model lists for an enum."""
    return set(_runtime_model().shape_for(shape).enum)


def accepts(*messages: dict[str, Any], **fields: Any) -> bool:
    """Whether botocore's validator takes a Converse request with these messages."""
    from botocore.validate import ParamValidator

    request = {"modelId": "m", "messages": list(messages), **fields}
    shape = _runtime_model().operation_model("Converse").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    return True
