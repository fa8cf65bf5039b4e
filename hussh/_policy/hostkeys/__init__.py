"""Known hosts: decides which key of a server may be trusted, and records new ones.

The check of a host key (`_protocol/host_key_check.py`) uses these modules. They open no connection.
"""
