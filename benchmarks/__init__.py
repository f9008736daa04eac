"""What agentkit costs and what it saves, next to its peers, measured in one run."""
