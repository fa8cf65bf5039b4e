"""Runs operations: drivers for threads, asyncio and trio, and what wakes them."""
