"""What several test modules make: sweeps."""
