"""Training and scoring of one trial, and of the baselines that finalists are compared with."""
