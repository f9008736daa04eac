"""The engine: the path of a request as generators that yield effects, and the drivers."""
