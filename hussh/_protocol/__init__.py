"""Operations of the protocol as generators: no I/O, no clock, no event loop."""
