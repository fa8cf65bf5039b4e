"""Private and public keys, certificates, and their file formats.

The login (`_protocol/auth.py`) uses these modules, and host keys share the public half. They talk
to no server and no agent.
"""
