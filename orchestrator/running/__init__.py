"""The run of a sweep: launch and resume, the broker, the workers, Ray Tune."""
