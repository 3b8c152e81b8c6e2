"""Every setting that ``auto`` chooses, in one place."""

from __future__ import annotations

from typing import Final

AUTO: Final = "auto"

ENOUGH_ROWS = 1000
"""Training rows from which on topics find more: 1,350 of SciQAG gain, 450 only forget more."""
