"""Trying hussh on the SSH servers of other people; see `scripts/zoo`."""
