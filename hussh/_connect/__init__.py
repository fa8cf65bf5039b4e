"""Connecting: streams to a first hop, every hop after it, and how many logins at a time."""
