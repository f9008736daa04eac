"""The definition of a function that a model receives, and the check of its arguments."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agentkit.errors import ConfigurationError, ToolError
from agentkit.output.tools import (
    Parameters,
    ToolContext,
    description_of,
    descriptions,
    tool_spec,
    tool_specs,
)
from agentkit.types import ToolSpec

if TYPE_CHECKING:
    from decimal import Decimal


class Unit(StrEnum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Place(BaseModel):
    city: str
    country: str = "FR"


@dataclass
class Span:
    first: date
    last: date


def weather(city: str, unit: Unit = Unit.CELSIUS, *, days: int = 1) -> str:
    """The weather of a city.

    Looks it up in an almanac.

    Args:
        city: the city's name,
            in English.
        unit (Unit, optional): of the temperature
        days: how many.

    Returns:
        One line a day.
    """
    return f"{city} {unit} {days}"


def test_a_functions_signature_and_docstring_become_the_schema() -> None:
    spec = tool_spec(weather)
    assert spec.name == "weather"
    assert spec.description == (
        "The weather of a city.\n\nLooks it up in an almanac.\n\nReturns:\n    One line a day."
    )
    assert spec.fn is weather
    assert spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "the city's name, in English."},
            "unit": {
                "$ref": "#/$defs/Unit",
                "default": "celsius",
                "description": "of the temperature",
            },
            "days": {"type": "integer", "default": 1, "description": "how many."},
        },
        "$defs": {"Unit": {"enum": ["celsius", "kelvin"], "title": "Unit", "type": "string"}},
    }


class Almanac:
    """An almanac."""

    def look_up(self, city: str) -> str:
        """Look a city up."""
        return city

    @classmethod
    def count(cls, city: str) -> int:
        """Count."""
        return len(city)

    @staticmethod
    def clear(city: str) -> None:
        """Clear."""

    def __call__(self, city: str) -> str:
        """Ask the almanac.

        Args:
            city: which one.
        """
        return city


async def asynchronous(city: str) -> str:
    """Look a city up."""
    return city


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (Almanac().look_up, "look_up"),
        (Almanac.count, "count"),
        (Almanac.clear, "clear"),
        (Almanac(), "Almanac"),
        (asynchronous, "asynchronous"),
        (functools.partial(weather, unit=Unit.KELVIN, days=3), "weather"),
        (functools.partial(functools.partial(weather, days=2), unit=Unit.KELVIN), "weather"),
    ],
)
def test_every_kind_of_callable_offers_just_what_the_model_may_give(
    fn: Callable[..., Any], name: str
) -> None:
    spec = tool_spec(fn)
    assert spec.name == name
    assert list(spec.parameters["properties"]) == ["city"]
    assert spec.parameters["required"] == ["city"]
    assert spec.description
    bound = Parameters(fn).bind({"city": "Paris"})
    result = fn(*bound.args, **bound.kwargs)
    if asyncio.iscoroutine(result):
        assert asyncio.run(result) == "Paris"


def test_a_model_cannot_set_what_a_partial_has_set() -> None:
    def search(query: str, **options: Any) -> str:
        return f"{query} {options}"

    parameters = Parameters(functools.partial(search, tenant="mine", limit=3))
    bound = parameters.bind({"query": "tea", "page": 2})
    assert bound.kwargs == {"query": "tea", "page": 2}
    with pytest.raises(ToolError, match=r"\$\.limit, \$\.tenant"):
        parameters.bind({"query": "tea", "tenant": "yours", "limit": 9})


def test_a_callable_objects_description_is_that_of_its_call() -> None:
    spec = tool_spec(Almanac())
    assert spec.description == "Ask the almanac."
    assert spec.parameters["properties"]["city"]["description"] == "which one."


def test_a_class_is_a_tool_that_makes_an_instance() -> None:
    bound = Parameters(Span).bind({"first": "2026-01-01", "last": "2026-01-02"})
    assert Span(*bound.args, **bound.kwargs) == Span(date(2026, 1, 1), date(2026, 1, 2))


def test_the_context_is_given_by_the_run_and_hidden_from_the_model() -> None:
    def tool(city: str, context: ToolContext, other: ToolContext | None = None) -> None:
        """A tool."""

    parameters = Parameters(tool)
    assert list(parameters.schema["properties"]) == ["city"]
    context = ToolContext("agent", "call-1", 1, ())
    assert parameters.bind({"city": "Paris"}, context).kwargs == {
        "city": "Paris",
        "context": context,
        "other": context,
    }
    with pytest.raises(ToolError, match=r"\$\.context"):
        parameters.bind({"city": "Paris", "context": {}}, context)


def test_a_description_in_the_annotation_comes_first() -> None:
    def tool(
        a: Annotated[int, Field(ge=0, description="from the field")],
        b: Annotated[str, "from the text"],
    ) -> None:
        """A tool.

        Args:
            a: from the docstring
            b: from the docstring
        """

    properties = Parameters(tool).schema["properties"]
    assert properties["a"] == {"type": "integer", "minimum": 0, "description": "from the field"}
    assert properties["b"] == {"type": "string", "description": "from the text"}


def test_names_that_pydantic_uses_itself_are_names_like_others() -> None:
    def tool(schema: str, json: int, model_config: str, copy: bool = True) -> None:
        """A tool."""

    parameters = Parameters(tool)
    given = {"schema": "s", "json": 1, "model_config": "m"}
    assert set(parameters.schema["properties"]) == {"schema", "json", "model_config", "copy"}
    assert parameters.bind(given).kwargs == given


def test_arguments_are_converted_to_the_functions_types() -> None:
    def tool(place: Place, span: Span, units: set[Unit], mode: Literal["a", "b"] = "a") -> None:
        """A tool."""

    bound = Parameters(tool).bind(
        {
            "place": {"city": "Paris"},
            "span": {"first": "2026-01-01", "last": "2026-01-02"},
            "units": ["kelvin", "kelvin"],
        }
    )
    assert bound.kwargs == {
        "place": Place(city="Paris"),
        "span": Span(date(2026, 1, 1), date(2026, 1, 2)),
        "units": {Unit.KELVIN},
    }


def test_what_is_left_out_is_the_functions_own_default() -> None:
    default = object()

    def tool(a: int, b: Any = default) -> Any:
        """A tool."""
        return b

    parameters = Parameters(tool)
    bound = parameters.bind({"a": 1})
    assert bound.kwargs == {"a": 1}
    assert "default" not in parameters.schema["properties"]["b"], "it has no JSON form"


def test_wrong_arguments_are_named_by_their_paths() -> None:
    def tool(place: Place, days: list[int]) -> None:
        """A tool."""

    with pytest.raises(ToolError) as caught:
        Parameters(tool).bind({"place": {"country": "FR"}, "days": [1, "two"], "extra": 1})
    text = caught.value.message
    assert "invalid arguments for tool" in text
    for path in ("$.place.city: Field required", "$.days[1]: ", "$.extra: "):
        assert path in text


@pytest.mark.parametrize("arguments", [None, "city=Paris", ["Paris"], 7])
def test_arguments_that_are_not_an_object_are_refused(arguments: Any) -> None:
    with pytest.raises(ToolError, match="must be a JSON object"):
        Parameters(weather).bind(arguments)


def test_positional_only_and_variadic_parameters_are_bound() -> None:
    def tool(a: int, b: int = 5, /, *rest: int, c: int = 0, **more: str) -> tuple[Any, ...]:
        """A tool."""
        return a, b, rest, c, more

    parameters = Parameters(tool)
    assert parameters.schema["additionalProperties"] is True
    assert list(parameters.schema["properties"]) == ["a", "b", "c"]
    bound = parameters.bind({"a": "1", "c": 2, "d": "x"})
    assert tool(*bound.args, **bound.kwargs) == (1, 5, (), 2, {"d": "x"})


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def tool() -> None:
        """A tool."""

    assert Parameters(tool).schema == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_an_unresolved_return_annotation_is_ignored() -> None:
    def tool(a: int) -> Decimal:
        """A tool."""
        raise NotImplementedError

    assert list(Parameters(tool).schema["properties"]) == ["a"]


def takes_decimal(a: Decimal) -> None:
    """A tool whose parameter's type exists for type checkers only."""


class Opaque:
    """No type that pydantic knows."""


class Unreadable:
    """Callable, but without a readable signature."""

    __signature__ = "?"

    def __call__(self, *args: Any) -> None: ...


def takes_opaque(a: Opaque) -> None:
    """A tool."""


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (lambda a: a, "'<lambda>' cannot be the name"),
        (Almanac.look_up, "unbound method"),
        (takes_decimal, "cannot be resolved"),
        (takes_opaque, "without a JSON schema"),
        (Unreadable(), "cannot be read"),
        (7, "7 is not a tool"),
        ({"description": "no name"}, "has no name"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_a_remedy(tool: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        tool_spec(tool)
    assert caught.value.hint


def test_builtin_functions_are_tools_without_types() -> None:
    spec = tool_spec(math.sqrt)
    assert list(spec.parameters["properties"]) == ["x"]
    assert Parameters(math.sqrt).bind({"x": 4}).args == (4,)


@pytest.mark.parametrize("tools", ["search", weather, {"name": "search"}])
def test_a_single_tool_is_not_a_list_of_tools(tools: Any) -> None:
    with pytest.raises(ConfigurationError, match="tools is"):
        tool_specs(tools)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two tools are called 'weather'"):
        tool_specs([weather, ToolSpec("weather")])


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), max_size=30)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), texts, max_size=5))
def test_parameter_descriptions_come_from_the_docstring(described: dict[str, str]) -> None:
    def tool(**more: Any) -> None: ...

    lines = "".join(f"    {name}: {text}\n" for name, text in described.items())
    tool.__doc__ = f"Do it.\n\nArgs:\n{lines}"
    assert descriptions(tool) == {name: text.strip() for name, text in described.items()}
    assert description_of(tool) == "Do it."


@given(
    st.fixed_dictionaries(
        {
            "n": st.integers(),
            "words": st.lists(st.text()),
            "table": st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        }
    )
)
def test_arguments_survive_the_way_through_json(arguments: dict[str, Any]) -> None:
    def tool(n: int, words: list[str], table: dict[str, float]) -> None:
        """A tool."""

    assert Parameters(tool).bind(json.loads(json.dumps(arguments))).kwargs == arguments
