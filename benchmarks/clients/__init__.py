"""One file for each client; `worker.py` runs them, each in a process of its own."""
