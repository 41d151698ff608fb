"""What a process does with a piece of work; knows nothing of Ray."""
