"""Amazon Bedrock across models and Regions: an answer, an outage, a stream, parallel requests.

A local server replaces AWS. To use AWS with the credentials of your environment, leave out
`endpoint_url` and `auth_config`. Requires the extra ``bedrock``.
"""

from agentkit.bedrock import (
    AuthConfig,
    AuthenticationType,
    BedrockConverseRequest,
    ParallelLLMManager,
    RetryConfig,
    create_user_message,
)
from agentkit.testing import WireServer, faults


def ask(text: str) -> dict:
    return create_user_message().add_text(text).build()


auth = AuthConfig(
    AuthenticationType.CREDENTIALS,
    access_key_id="AKIAEXAMPLE",
    secret_access_key="local",  # noqa: S106 - the local server does not check it
)

with (
    WireServer(reply="Paris is the capital.") as server,
    ParallelLLMManager(
        models=["Claude Sonnet 4.5", "Claude Haiku 4.5"],
        regions=["us-east-1", "us-west-2"],
        auth_config=auth,
        retry_config=RetryConfig(max_attempts=4, base_delay=0.05),
        endpoint_url=server.bedrock_url,
    ) as llm,
):
    print(llm.validate_configuration()["warnings"])

    server.script(faults.status(429), faults.status(503))
    response = llm.converse(messages=[ask("What is the capital of France?")])
    print(response.get_content(), "|", response.ledger)

    stream = llm.converse_stream(messages=[ask("And once more?")])
    for piece in stream:
        print(piece, end="")
    print(" |", stream.model_used, "in", stream.region_used)

    requests = [BedrockConverseRequest(messages=[ask(f"Question {number}")]) for number in range(8)]
    results = llm.converse_parallel(requests)
    print(sorted(results.parallel_execution_stats.region_distribution.items()))
