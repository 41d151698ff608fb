"""Builders of sweeps, models and packages for several test modules."""
