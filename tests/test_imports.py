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


@pytest.mark.parametrize(
    "module", ["losses", "encoder.pooling", "evaluation.metrics", "data.records", "data.splits"]
)
def test_the_core_knows_no_framework(module: str) -> None:
    # torchmetrics looks for transformers by itself, so only what the module asks for is checked.
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "asked = set()\n"
        "def spy(name, globals=None, *rest, **named):\n"
        "    if (globals or {}).get('__name__', '').startswith('embedft'):\n"
        "        asked.add(name.split('.')[0])\n"
        "    return real(name, globals, *rest, **named)\n"
        "builtins.__import__ = spy\n"
        f"import embedft.{module}\n"
        "print(*asked)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    asked = set(result.stdout.split())
    assert asked
    assert not asked & {"lightning", "transformers", "sentence_transformers", "jsonargparse"}


def test_sentence_transformers_is_not_imported() -> None:
    assert "sentence_transformers" not in loaded_by("import embedft.cli")


def test_public_names() -> None:
    import embedft

    for name in embedft.__all__:
        assert getattr(embedft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        embedft.nothing  # noqa: B018
