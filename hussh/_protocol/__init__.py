"""Operations of the protocol as generators: no sockets, no threads, no event loop.

Drivers (`_runtime`) step them; `_connect` and `_api` make them.
"""
