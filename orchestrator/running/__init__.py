"""Running sweeps: launch and resume, the broker, the workers, Ray Tune."""
