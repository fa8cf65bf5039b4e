"""Figures beside other clients; nothing here is part of the library or of its tests."""
