"""Write the pins of the fixtures anew, and say which changed.

    python -m tools.update_pins

Look at each line: CONTRIBUTING.md says when a pin may change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.running.resume_checks import differences
from tests.pins.computed import PINS, all_pins


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; see the module."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    before: Mapping[str, Any] = json.loads(PINS.read_text()) if PINS.is_file() else {}
    now = all_pins()
    PINS.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    for line in differences(before, now):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
