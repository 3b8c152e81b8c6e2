from collections.abc import Callable
from pathlib import Path


def test_fit(fit: Callable[..., Path]) -> None:
    folder = fit()
    print(*folder.rglob("*"), sep="\n")
