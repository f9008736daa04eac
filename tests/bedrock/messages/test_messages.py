"""What the builder builds is what the service accepts; what it would refuse is refused here."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.bedrock import (
    ConverseMessageBuilder,
    DocumentFormatEnum,
    ImageFormatEnum,
    MessageBuilder,
    RolesEnum,
    VideoFormatEnum,
    build_cache_point,
    build_json_schema_output_config,
    create_assistant_message,
    create_message,
    create_user_message,
)
from agentkit.bedrock.messages.validation import check_messages
from agentkit.errors import ConfigurationError, RequestValidationError
from agentkit.providers.bedrock.encoding import document_name
from tests.bedrock.messages import samples as s


@pytest.mark.promise("S0-21")
def test_a_text_message_is_role_and_content() -> None:
    message = create_user_message().add_text("  What is the capital of France?\n").build()
    assert message == {"role": "user", "content": [{"text": "What is the capital of France?"}]}
    assert s.accepts(message)


@pytest.mark.promise("S1-15")
def test_several_texts_stay_several_blocks_in_order() -> None:
    message = create_user_message().add_text("first").add_text("second").build()
    assert message["content"] == [{"text": "first"}, {"text": "second"}]


@pytest.mark.promise("S1-16")
def test_the_factories_set_the_role() -> None:
    assert create_assistant_message().add_text("hi").build()["role"] == "assistant"
    assert create_message("user").role is RolesEnum.USER
    assert ConverseMessageBuilder is MessageBuilder


@pytest.mark.promise("S1-17")
@pytest.mark.parametrize("bad", ["system", "", None, 5])
def test_an_unknown_role_is_refused_immediately(bad: Any) -> None:
    with pytest.raises(RequestValidationError, match="role"):
        create_message(bad)


@pytest.mark.parametrize("bad", ["", "  \n", None, 5])
def test_text_must_not_be_blank(bad: Any) -> None:
    with pytest.raises(RequestValidationError):
        create_user_message().add_text(bad)


@pytest.mark.promise("S0-25", "S1-18")
def test_a_chain_of_all_kinds_is_in_order_and_accepted(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(s.PNG)
    (tmp_path / "data.v2.xlsx").write_bytes(s.XLSX)
    (tmp_path / "clip.mp4").write_bytes(s.MP4_ISOM)
    message = (
        create_user_message()
        .add_text("look")
        .add_local_image(tmp_path / "chart.png")
        .add_local_document(str(tmp_path / "data.v2.xlsx"), citations_enabled=True, context="Q3")
        .add_local_video(tmp_path / "clip.mp4")
        .add_cache_point(ttl="1h")
        .add_guard_content("only this", ["query"])
        .add_tool_result("id-1", {"ok": True}, "success")
        .build()
    )
    assert [next(iter(block)) for block in message["content"]] == [
        "text",
        "image",
        "document",
        "video",
        "cachePoint",
        "guardContent",
        "toolResult",
    ]
    document = message["content"][2]["document"]
    assert (document["format"], document["name"]) == ("xlsx", "data v2")
    assert document["citations"] == {"enabled": True}
    assert s.accepts(message)


@pytest.mark.promise("B13", "S0-26", "S1-09")
@pytest.mark.parametrize(
    ("name", "data", "format_"),
    [
        ("a.pdf", s.PDF, "pdf"),
        ("a.csv", b"a,b\n1,2", "csv"),
        ("a.doc", s.DOC, "doc"),
        ("a.docx", s.DOCX, "docx"),
        ("a.xls", s.XLS, "xls"),
        ("a.xlsx", s.XLSX, "xlsx"),
        ("a.html", s.HTML, "html"),
        ("a.txt", b"words", "txt"),
        ("a.md", b"# words", "md"),
    ],
)
def test_each_document_format_is_sent_as_itself(
    name: str, data: bytes, format_: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    message = create_user_message().add_text("read").add_local_document(tmp_path / name).build()
    assert message["content"][1]["document"]["format"] == format_
    assert message["content"][1]["document"]["source"] == {"bytes": data}
    assert s.accepts(message)


@pytest.mark.promise("S1-06")
def test_a_format_given_by_hand_wins() -> None:
    message = (
        create_user_message()
        .add_text("x")
        .add_image_bytes(s.PNG, format=ImageFormatEnum.WEBP)
        .add_document_bytes(b"?", format=DocumentFormatEnum.DOCX, name="Proposal")
        .add_video_bytes(b"?", format=VideoFormatEnum.THREE_GP)
        .build()
    )
    formats = [next(iter(block.values()))["format"] for block in message["content"][1:]]
    assert formats == ["webp", "docx", "three_gp"]
    with pytest.raises(RequestValidationError, match="use one of: jpeg"):
        create_user_message().add_image_bytes(s.PNG, format="tiff")


@pytest.mark.promise("S1-10")
def test_avi_is_recognised_and_refused_with_the_reason() -> None:
    tries: list[Callable[[], object]] = [
        lambda: create_user_message().add_video_bytes(s.AVI),
        lambda: create_user_message().add_video_bytes(b"?", format=VideoFormatEnum.AVI),
        lambda: create_user_message().add_video_s3("s3://bucket/a.avi", "avi"),
    ]
    for add in tries:
        with pytest.raises(RequestValidationError, match=r"AVI.*does not accept") as caught:
            add()
        assert "mp4" in (caught.value.hint or "")


@pytest.mark.promise("B14", "S1-11")
@pytest.mark.parametrize(
    ("add", "start", "limit"),
    [
        ("add_image_bytes", s.PNG, 3_750_000),
        ("add_document_bytes", s.PDF, 4_500_000),
        ("add_video_bytes", s.MP4, 100_000_000),
    ],
)
def test_the_size_limits_are_exact(add: str, start: bytes, limit: int) -> None:
    data = start.ljust(limit, b"\0")
    assert len(getattr(create_user_message(), add)(data).build()["content"]) == 1
    with pytest.raises(RequestValidationError, match=f"the limit is {limit:,}"):
        getattr(create_user_message(), add)(data + b"\0")
    with pytest.raises(RequestValidationError, match="empty"):
        getattr(create_user_message(), add)(b"")


@pytest.mark.promise("B14", "S1-12")
def test_a_raised_limit_holds_and_warns_once_above_the_services(tmp_path: Path) -> None:
    path = tmp_path / "large.pdf"
    path.write_bytes(s.PDF.ljust(6_000_000, b"0"))
    with pytest.warns(UserWarning, match=r"above the 4.5 MB") as seen:
        create_user_message().add_local_document(path, max_size_mb=10.0)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with pytest.raises(RequestValidationError, match="6,000,000 bytes"):
        create_user_message().add_local_document(path)
    with pytest.raises(ConfigurationError):
        create_user_message().add_local_document(path, max_size_mb=0)


def test_local_files_obey_the_allowed_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "photo.png").write_bytes(s.PNG)
    with pytest.raises(RequestValidationError, match="outside"):
        create_user_message(allowed_folder=tmp_path / "in").add_local_image(tmp_path / "photo.png")
    with pytest.raises(FileNotFoundError):
        create_user_message().add_local_image(tmp_path / "absent.png")


def test_counts_are_those_of_the_service() -> None:
    full = create_user_message()
    for number in range(100):
        full.add_text(str(number))
    with pytest.raises(RequestValidationError, match="100 blocks"):
        full.add_text("one more")
    for add, most, data in (
        ("add_image_bytes", 20, s.PNG),
        ("add_document_bytes", 5, s.PDF),
        ("add_video_bytes", 1, s.MP4),
    ):
        builder = create_user_message().add_text("x")
        for _ in range(most):
            getattr(builder, add)(data)
        with pytest.raises(RequestValidationError, match=f"at most {most} blocks"):
            getattr(builder, add)(data)
        assert s.accepts(builder.build())


@pytest.mark.promise("S1-41")
def test_cache_points_follow_content_and_are_at_most_four() -> None:
    with pytest.raises(RequestValidationError, match="must follow a block"):
        create_user_message().add_cache_point()
    builder = create_user_message()
    for number in range(4):
        builder.add_text(str(number), cacheable=True)
    assert builder.build()["content"][1] == {"cachePoint": {"type": "default"}}
    with pytest.raises(RequestValidationError, match="must follow a block"):
        builder.add_cache_point()
    with pytest.raises(RequestValidationError, match="at most 4"):
        builder.add_text("more").add_cache_point()
    for bad in ({"ttl": "2h"}, {"cache_type": "other"}):
        with pytest.raises(RequestValidationError):
            build_cache_point(**bad)


def test_blocks_of_the_wrong_speaker_are_refused() -> None:
    assistant, user = create_assistant_message(), create_user_message()
    tries: list[Callable[[], object]] = [
        lambda: assistant.add_image_bytes(s.PNG),
        lambda: assistant.add_tool_result("id", "x"),
        lambda: user.add_tool_use("id", "tool", {}),
        lambda: user.add_reasoning_content("hm"),
    ]
    for add in tries:
        with pytest.raises(RequestValidationError, match="only"):
            add()


def test_a_tool_round_trip_is_accepted() -> None:
    calls = (
        create_assistant_message().add_text("I look").add_tool_use("id-1", "weather", {"at": "X"})
    )
    results = (
        create_user_message()
        .add_tool_result("id-1", "sunny")
        .add_tool_result("id-2", {"temperature": 20})
        .add_tool_result("id-3", [{"text": "a"}, {"json": {}}], "error")
    )
    assert s.accepts(calls.build(), results.build())
    for bad in ((" bad id", "x", None), ("id", b"bytes", None), ("id", "x", "maybe")):
        with pytest.raises(RequestValidationError):
            create_user_message().add_tool_result(*bad)
    with pytest.raises(RequestValidationError, match="tool name"):
        create_assistant_message().add_tool_use("id", "two words", {})


def test_reasoning_goes_back_signed_or_redacted() -> None:
    message = (
        create_assistant_message()
        .add_reasoning_content("because", signature="sig")
        .add_reasoning_content(redacted_content=b"\0")
        .build()
    )
    assert s.accepts(message)
    with pytest.raises(RequestValidationError, match="either"):
        create_assistant_message().add_reasoning_content()


def test_files_in_s3_need_a_format_and_a_good_address() -> None:
    message = (
        create_user_message()
        .add_text("x")
        .add_image_s3("s3://bucket/a.png", "png", bucket_owner="123456789012")
        .add_document_s3("s3://bucket/q3.report.pdf", "pdf")
        .add_video_s3("s3://bucket/a.mp4", "mp4")
        .build()
    )
    assert message["content"][2]["document"]["name"] == "q3 report"
    assert s.accepts(message)
    for uri, owner in (("https://x/y", None), ("s3://bucket", None), ("s3://bucket/x", "12")):
        with pytest.raises(RequestValidationError):
            create_user_message().add_image_s3(uri, "png", owner)


@pytest.mark.promise("B15", "S1-82")
def test_a_document_has_a_name_even_when_none_is_given() -> None:
    builder = create_user_message().add_text("x")
    builder.add_document_bytes(s.PDF).add_document_bytes(s.PDF)
    builder.add_document_bytes(s.PDF, filename="/tmp/Bericht für März.pdf")
    names = [block["document"]["name"] for block in builder.build()["content"][1:]]
    assert names == ["Document", "Document (2)", "Bericht fur Marz"]


@pytest.mark.promise("B15", "S1-07", "S1-82")
@given(st.text(), st.sets(st.text(alphabet=string.ascii_letters, min_size=1), max_size=5))
def test_every_name_becomes_one_the_service_accepts(name: str, taken: set[str]) -> None:
    clean = document_name(name, taken)
    assert 1 <= len(clean) <= 200
    assert set(clean) <= set(string.ascii_letters + string.digits + " -()[]")
    assert "  " not in clean
    assert clean == clean.strip()
    assert clean not in taken
    assert document_name(clean) == clean


def test_a_long_taken_name_still_gets_its_number() -> None:
    assert document_name("x" * 300, {"x" * 200}) == "x" * 196 + " (2)"


def test_a_message_needs_content_and_a_document_needs_text() -> None:
    with pytest.raises(RequestValidationError, match="no content"):
        create_user_message().build()
    built = create_user_message().add_document_bytes(s.PDF).build()
    with pytest.raises(RequestValidationError, match="needs text"):
        check_messages([built])


def test_a_built_message_is_its_own() -> None:
    builder = create_user_message().add_text("a")
    first = builder.build()
    first["content"][0]["text"] = "changed"
    builder.add_text("b")
    assert builder.build()["content"] == [{"text": "a"}, {"text": "b"}]
    assert len(first["content"]) == 1


@pytest.mark.promise("B16")
def test_a_schema_travels_as_a_json_string() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    config = build_json_schema_output_config(schema, "thing", "a thing")
    definition = config["textFormat"]["structure"]["jsonSchema"]
    assert json.loads(definition["schema"]) == schema
    assert build_json_schema_output_config(json.dumps(schema), "thing", "a thing") == config
    assert s.accepts(create_user_message().add_text("x").build(), outputConfig=config)
    for bad in ("no json", "[1]", {"a": {1, 2}}):
        with pytest.raises(RequestValidationError):
            build_json_schema_output_config(bad)


def test_wrong_bytes_are_refused_immediately() -> None:
    with pytest.raises(RequestValidationError, match="must be bytes"):
        create_user_message().add_image_bytes("text")  # type: ignore[arg-type]


def test_a_good_request_has_no_problems_and_is_left_alone() -> None:
    messages = [
        create_user_message().add_text("hi").build(),
        {"role": "assistant", "content": [{"text": "hello"}]},
    ]
    before = json.dumps(messages)
    check_messages(messages, system=[{"text": "be kind"}])
    assert json.dumps(messages) == before


@pytest.mark.parametrize("messages", [[], "text", None, {"role": "user"}, [5], [{}]])
def test_an_invalid_conversation_is_refused(messages: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        check_messages(messages)
    assert caught.value.validation_errors


@pytest.mark.promise("S0-28")
def test_all_problems_are_reported_together() -> None:
    messages = [
        {"role": "robot", "content": "text"},
        {"role": "user", "content": [{"image": {}}] * 21 + [{"document": {}}, {"a": 1, "b": 2}]},
        {"role": "user", "content": []},
    ]
    with pytest.raises(RequestValidationError) as caught:
        check_messages(messages)
    problems = "\n".join(caught.value.validation_errors)
    for expected in ("robot", "not str", "21 blocks", "needs text", "one key", "is empty"):
        assert expected in problems


def test_cache_points_are_counted_over_the_whole_request() -> None:
    point = build_cache_point()
    messages = [{"role": "user", "content": [{"text": "a"}, point, {"text": "b"}, point]}]
    check_messages(messages, [{"text": "s"}, point], {"tools": [point]})
    with pytest.raises(RequestValidationError, match="5 cache points"):
        check_messages(messages, [{"text": "s"}, point, point], {"tools": [point]})
