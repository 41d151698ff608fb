"""Where a network can be cut, and its frozen prefix and trained suffix."""
