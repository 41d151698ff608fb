"""The command line: one module per command; each parses arguments, calls a use case and prints.

No module here imports anything slow at its top level, so that `--help` answers at once.
"""

from orchestrator.cli.main import main

__all__ = ["main"]
