"""Small programs that use the Python API; each runs as `python examples/NAME.py`."""
