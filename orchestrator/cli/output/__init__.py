"""Rendering of results on stdout and stderr."""
