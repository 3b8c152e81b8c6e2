"""One rank of test_distributed.py: runs the fits of a JSON file, which ``Gradients`` ends."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from embedft.cli import main

if __name__ == "__main__":
    for arguments in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        with suppress(SystemExit):
            main(arguments)
