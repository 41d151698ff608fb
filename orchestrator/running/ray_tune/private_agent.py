"""The agent of a private cluster's node: Ray's own, as if the dashboard's libraries were missing.

A node needs an agent, which ends with it. Beside that, the agent serves the dashboard if the
dashboard's libraries are installed: it then imports them and all modules of the dashboard, which
takes more than half of its processor seconds until the first trial. Ray supports installations
without these libraries, and its agent does without them there.

Ray runs this file as a program: private_agent.py AGENT ARGUMENT..., where AGENT is the file of its
own agent.
"""

import sys

LIBRARIES = "ray.dashboard.optional_deps"
"""The module that imports the dashboard's libraries; Ray catches the ImportError."""

MODULES = "ray.dashboard.modules"
"""The package whose modules the agent imports before it leaves out those that need a library."""


def main() -> None:
    """Run Ray's agent with the arguments of this program."""
    del sys.path[0]  # the folder of this file, whose modules would hide others of the same name
    from importlib import import_module
    from runpy import run_path

    sys.modules[LIBRARIES] = None  # type: ignore[assignment]  # documented: an import then fails
    import_module(MODULES).__path__ = []
    del sys.argv[0]
    run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
