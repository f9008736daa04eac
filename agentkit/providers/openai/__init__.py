"""OpenAI: the chat completions API and the responses API."""
