"""The same as ``python -m embedft generate``, under its earlier name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.cli.main import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])
