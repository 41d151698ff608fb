"""The command line: parses, calls, renders, exits. One file a command.

Nothing heavy is imported at the top of any file here: `--help` has to answer at once.
"""

from orchestrator.cli.main import main

__all__ = ["main"]
