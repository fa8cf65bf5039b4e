"""The only code that waits: it runs operations, opens sockets and children."""
