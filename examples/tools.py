"""An agent that calls your functions as tools, within limits."""

from pydantic import BaseModel

from agentkit import Agent, LLMManager, Request, Response, ToolCall


class Scripted:
    """A scripted model: requests two tool calls, then answers."""

    capabilities = frozenset({"messages", "tools", "json_schema"})

    def send(self, request: Request) -> Response | str:
        results = [each.text for each in request.messages if each.tool_call_id]
        if not results:
            calls = (
                ToolCall("call-1", "temperature", {"city": "Paris"}),
                ToolCall("call-2", "temperature", {"city": "Oslo"}),
            )
            return Response("", tool_calls=calls)
        return f'{{"warmer": "Paris", "by": {float(results[0]) - float(results[1])}}}'


def temperature(city: str) -> float:
    """The temperature in a city, in degrees Celsius.

    Args:
        city: the city's name in English.
    """
    return {"Paris": 21.5, "Oslo": 14.0}[city]


class Comparison(BaseModel):
    warmer: str
    by: float


llm = LLMManager(cache="memory")
llm.register_model("model", Scripted())
agent = Agent("Meteorologist", "Compares weather", config={"llm_manager": llm})
agent.start()

result = agent.run(
    "Where is it warmer, in Paris or in Oslo?",
    tools=[temperature],
    response_model=Comparison,
    max_steps=5,
    deadline=30,
)
print(result.parsed)
for step in result.steps:
    for each in step.results:
        print(f"{each.call.name}({dict(each.call.arguments)}) -> {each.content}")
agent.stop()
llm.close()
