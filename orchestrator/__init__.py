"""Sweeps of fine-tuning trials: a search-space file -> Ray Tune trials -> tables -> leaderboard."""
