"""One rank of test_distributed.py: runs the fits of a JSON file, one after the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from embedft.cli import main

if __name__ == "__main__":
    for arguments in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        main(arguments)
