"""What imports what: asked of fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_is_light() -> None:
    assert not loaded_by("import embedft; embedft.__version__") & {"torch", "numpy", "transformers"}


def test_processes_that_read_the_input_start_light() -> None:
    assert not loaded_by("import embedft.table.workers") & {"torch", "lightning", "transformers"}
    assert "torch" not in loaded_by("import embedft.__main__")


def test_sentence_transformers_is_not_imported() -> None:
    assert "sentence_transformers" not in loaded_by("import embedft.cli.main")


def test_public_names() -> None:
    import embedft

    for name in embedft.__all__:
        assert getattr(embedft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        embedft.nothing  # noqa: B018
