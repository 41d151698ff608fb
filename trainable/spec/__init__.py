"""The specification of a trial and its settings."""
