"""The broker: hands out work and records its results in one Optuna study per label budget."""
