"""Connecting: streams to a first hop, every hop after it, and how many at a time."""
