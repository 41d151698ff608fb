"""What programs and notebooks call; the commands of `orchestrator.cli` run the same code."""
