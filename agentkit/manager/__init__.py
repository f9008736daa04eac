"""`LLMManager`: registered models, and what becomes of each request to them."""
