"""An agent that executes tasks and reasons through its manager."""

from agentkit import Agent, LLMManager


def model(prompt: str, kwargs: dict) -> str:
    return f"Here is what I know about {prompt.rsplit(': ', maxsplit=1)[-1]}"


llm = LLMManager(cache="memory")
llm.register_model("model", model)

agent = Agent(
    name="AIAssistant",
    role="General Assistant",
    capabilities=["conversation", "analysis"],
    config={"llm_manager": llm},
)


def explain(topic: str) -> str:
    return agent.ask(f"As an AI assistant, respond to: {topic}")


agent.start()
print(agent.execute_task(explain, "What is machine learning?"))
print(agent.get_performance_metrics())
print(agent.model_health())
agent.stop()
llm.close()
