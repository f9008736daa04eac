"""Typed answers: repaired when they do not match, and partial while they stream."""

from pydantic import BaseModel, Field

from agentkit import LLMManager, StructuredOutputError
from agentkit.testing import ScriptedModel


class Dish(BaseModel):
    name: str
    minutes: int = Field(gt=0)


class Menu(BaseModel):
    title: str
    dishes: list[Dish] = Field(min_length=1)


EMPTY = '{"title": "Lunch", "dishes": []}'
GOOD = (
    '{"title": "Lunch", "dishes": [{"name": "Soup", "minutes": 9}, {"name": "Pie", "minutes": 45}]}'
)

with LLMManager(enable_caching=False) as llm:
    llm.register_model("model", ScriptedModel(EMPTY, GOOD, GOOD, EMPTY).as_stream())

    reply = llm.complete("Plan a lunch.", response_model=Menu)
    print(reply.ledger)
    print(repr(reply.parsed))

    with llm.stream("Plan a lunch.", response_model=Menu) as stream:
        for menu in stream.partials():
            print(menu.title, "|", ", ".join(str(dish.name) for dish in menu.dishes or ()))

    try:
        with llm.stream("Plan a lunch.", response_model=Menu) as stream:
            print("".join(stream))
    except StructuredOutputError as error:
        print(error.violations)
