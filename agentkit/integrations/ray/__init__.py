"""Large batches on a Ray cluster: `map_prompts` for files, `Asker` for datasets of Ray Data."""

from agentkit.integrations.ray.actors import map_prompts
from agentkit.integrations.ray.dataset import Asker

__all__ = ["Asker", "map_prompts"]
