"""One rank of test_distributed.py: runs the fits of a JSON file, which ``Gradients`` ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from recorder import run_for_gradients

if __name__ == "__main__":
    for arguments in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        run_for_gradients(arguments)
