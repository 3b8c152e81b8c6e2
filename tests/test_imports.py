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
    assert not loaded_by("import embedft.data.workers") & {"torch", "lightning", "transformers"}
    assert "torch" not in loaded_by("import embedft.__main__")


def test_the_core_knows_no_framework() -> None:
    """Of each module by name: all are imported by one interpreter, which takes seconds."""
    modules = ["losses", "encoder.pooling", "evaluation.metrics", "data.records", "data.splits"]
    # torchmetrics looks for transformers by itself, so only what the package asks for is checked.
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "asked = set()\n"
        "def spy(name, globals=None, *rest, **named):\n"
        "    if (by := (globals or {}).get('__name__', '')).startswith('embedft'):\n"
        "        asked.add((by, name.split('.')[0]))\n"
        "    return real(name, globals, *rest, **named)\n"
        "builtins.__import__ = spy\n"
        f"import {', '.join(f'embedft.{module}' for module in modules)}\n"
        "for by, name in asked: print(by, name)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    asked = {tuple(line.split()) for line in result.stdout.splitlines()}
    assert {f"embedft.{module}" for module in modules} <= {by for by, _ in asked}
    for framework in ("lightning", "transformers", "sentence_transformers", "jsonargparse"):
        assert [by for by, name in asked if name == framework] == []


def test_sentence_transformers_is_not_imported() -> None:
    assert "sentence_transformers" not in loaded_by("import embedft.cli")


def test_public_names() -> None:
    import embedft

    for name in embedft.__all__:
        assert getattr(embedft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        embedft.nothing  # noqa: B018
