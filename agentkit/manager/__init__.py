"""`LLMManager`: registered models, and the requests to them."""
