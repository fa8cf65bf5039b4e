"""Known hosts: which key of a server may be trusted, and recording a new one."""
