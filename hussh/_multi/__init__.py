"""Many hosts: the public classes for them, what is done on each, and in which loop."""
