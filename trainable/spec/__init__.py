"""What a trial is told: its specification and the settings in it."""
