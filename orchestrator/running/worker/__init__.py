"""Execution of one piece of work in a worker process; independent of Ray."""
