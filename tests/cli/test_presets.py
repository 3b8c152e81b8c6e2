from __future__ import annotations

import pytest

from embedft.cli.presets import preset, presets
from embedft.errors import InputError


@pytest.mark.parametrize("name", ["recommended", "recommended.yaml", "configs/recommended"])
def test_a_preset_is_found_by_its_name(name: str) -> None:
    assert preset(name) == presets()["recommended"]
    assert preset(name).is_file()


def test_an_unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"no such file; did you mean recommended\? the presets "):
        preset("recomended.yaml")
    with pytest.raises(InputError, match="--config: zzz: no such file; the presets are "):
        preset("zzz")
