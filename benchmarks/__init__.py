"""Programs that measure, each printing a table."""
