"""Runs operations: drivers for threads, asyncio and trio, and what wakes them.

`_connect` makes the drivers. They know no SSH message and no option.
"""
