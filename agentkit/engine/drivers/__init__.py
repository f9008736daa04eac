"""The sync and the asyncio driver, which alone use threads, event loops and clocks."""
