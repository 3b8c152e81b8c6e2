"""The entry points as a newcomer's shell starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import embedft.__main__ as entry

ROOT = Path(__file__).parents[1]

# What pip writes for the entry point of pyproject.toml.
SCRIPT = """
import sys

from embedft.__main__ import main

sys.exit(main())
"""

LOSS = """
import torch

from embedft.losses import Loss


class HalfLoss(Loss):
    needs_labels = False

    def forward(self, anchor_BD: torch.Tensor, positive_BD: torch.Tensor) -> torch.Tensor:
        return (1 - (anchor_BD * positive_BD).sum(dim=1)).mean() / 2
"""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with nothing installed."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


def test_without_dependencies_one_line_says_what_to_type(bare_python: str) -> None:
    result = run([bare_python, "-m", "embedft", "fit", "--input_jsonl", "a.jsonl"], ROOT)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"embedft: error: {bare_python} has no module lightning. Activate the environment that "
        "embedft is installed in (source .venv/bin/activate), or install it: "
        "python -m pip install -e .\n"
    )


def test_a_dependency_that_is_installed_but_broken_keeps_its_traceback(
    bare_python: str, tmp_path: Path
) -> None:
    (tmp_path / "lightning.py").write_text("raise ModuleNotFoundError('cut off', name='lightning')")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import embedft.__main__"
    result = run([bare_python, "-c", f"{code}; embedft.__main__.main()"], tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("ModuleNotFoundError: cut off\n")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["script", "module"])
def test_a_loss_of_the_current_folder_is_found(by: str, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "embedft"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "my_losses.py").write_text(LOSS)
    (folder / "broken.py").write_text("import not_installed_anywhere\n")
    command = [sys.executable, *([str(script)] if by == "script" else ["-m", "embedft"])]
    flags = ["fit", "--input_jsonl=a.jsonl", "--print_config"]
    result = run([*command, *flags, "--loss_function=my_losses.HalfLoss"], folder)
    assert result.returncode == 0, result.stderr
    assert "class_path: my_losses.HalfLoss" in result.stdout
    result = run([*command, *flags, "--loss_function=broken.Loss"], folder)
    assert result.returncode == 2
    assert "No module named 'not_installed_anywhere'" in result.stderr
    assert "activate" not in result.stderr


@pytest.mark.parametrize(
    ("own", "spins"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"KMP_BLOCKTIME": "1"}, None),
    ],
)
def test_waiting_threads_sleep(
    own: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user has set something; both entry points call main, before torch is imported."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, str] = {}

    def command_line() -> Callable[[], None]:
        seen.update(os.environ)
        return lambda: None

    monkeypatch.setattr(entry, "_command_line", command_line)
    entry.main()
    assert seen.get("GOMP_SPINCOUNT") == spins
