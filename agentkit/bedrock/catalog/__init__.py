"""The models that Bedrock offers: where they are, and under which ids."""
