"""The same as ``python -m embedft generate``, by the name that it had before."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.generate.generate import main

if __name__ == "__main__":
    main()
