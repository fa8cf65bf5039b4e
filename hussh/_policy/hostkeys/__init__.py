"""Known hosts: decides which key of a server may be trusted, and records new ones."""
