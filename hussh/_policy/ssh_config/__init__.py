"""The user's ssh configuration, as ``ssh -G`` tells it: what ``config=`` makes of it; pure."""
