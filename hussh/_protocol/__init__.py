"""Operations of the protocol as generators: no sockets, no threads, no event loop."""
