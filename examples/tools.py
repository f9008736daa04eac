"""An agent that calls two of your functions as tools, within limits."""

from pydantic import BaseModel

from agentkit import Agent, LLMManager, Request, Response, ToolCall


class Scripted:
    """A scripted model: looks up the weather, then the train, then answers."""

    capabilities = frozenset({"messages", "tools", "json_schema"})

    def send(self, request: Request) -> Response | str:
        results = [each.text for each in request.messages if each.tool_call_id]
        if not results:
            calls = (
                ToolCall("call-1", "temperature", {"city": "Paris"}),
                ToolCall("call-2", "temperature", {"city": "Oslo"}),
            )
            return Response("", tool_calls=calls)
        if len(results) == 2:
            return Response("", tool_calls=(ToolCall("call-3", "hours_by_train", {"to": "Paris"}),))
        return f'{{"city": "Paris", "degrees": {results[0]}, "hours": {results[2]}}}'


def temperature(city: str) -> float:
    """The temperature in a city, in degrees Celsius.

    Args:
        city: the city's name in English.
    """
    return {"Paris": 21.5, "Oslo": 14.0}[city]


async def hours_by_train(to: str) -> int:
    """How long the train takes to a city, in hours."""
    return {"Paris": 3, "Oslo": 19}[to]


class Trip(BaseModel):
    city: str
    degrees: float
    hours: int


with LLMManager(enable_caching=False) as llm:
    llm.register_model("model", Scripted())  # or a name: "openai:gpt-6.1-terra"
    agent = Agent(llm, instructions="Suggest trips.", tools=[temperature, hours_by_train])
    result = agent.run(
        "Where is it warmer, in Paris or in Oslo? And how do I get there?",
        response_model=Trip,
        max_steps=5,
        deadline=30,
    )
    print(result.parsed)
    for step in result.steps:
        for each in step.results:
            print(f"{each.call.name}({dict(each.call.arguments)}) -> {each.content}")
