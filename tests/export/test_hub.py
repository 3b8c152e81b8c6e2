from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from runs import FinishedRun

from embedft.cli.main import main
from embedft.encoder.base_model import find_base_model
from embedft.encoder.encoder import Encoder
from embedft.export.hub import files_to_upload
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder

# huggingface_hub's own call of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """An exported folder, with a hidden file of the user's."""
    folder = tmp_path / "best_model"
    export_encoder(Encoder(str(tiny_model)), folder, ModelCard(str(tiny_model), 32, 48))
    (folder / ".env").write_text("secret")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A local hub, reached as the real one is."""
    server = HubServer()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # which has a protocol of its own
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    huggingface_hub.close_session()
    server.close()


def failing(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[object, str]:
    """Exit status and the one line of an export that fails."""
    with pytest.raises(SystemExit) as raised:
        main(["export", *flags])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    return raised.value.code, said


def local_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".env"
    }


def test_hub_ids_of_base_models(tiny_model: Path) -> None:
    assert find_base_model(str(tiny_model)).hub_id is None
    assert find_base_model("all-MiniLM-L6-v2").hub_id == tiny.MINILM


# Dry run


def test_dry_run_needs_no_network_and_no_token(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = local_files(model)
    main(["export", f"--model={model}", "--push_to_hub=org/name", "--private", "--dry_run"])
    said = capsys.readouterr().out
    assert "https://huggingface.co/org/name (private), in one commit" in said
    listed = {line.split("kB  ")[1] for line in said.splitlines() if "kB  " in line}
    assert listed == {*before, f"in {len(before)} files"}
    assert "names no license" in said
    readme = model / "README.md"
    readme.write_text(readme.read_text().replace("---\n", "---\nlicense: apache-2.0\n", 1))
    main(["export", f"--model={model}", "--push_to_hub=name", "--dry_run"])
    said = capsys.readouterr().out
    assert "(public)" in said
    assert "license" not in said


def test_dry_run_of_a_checkpoint_writes_nothing(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished_run.folder
    target = tmp_path / "exported"
    flags = [f"--ckpt_path={out}/checkpoints/best.ckpt", "--push_to_hub=org/name"]
    main(["export", *flags, f"--output_dir={target}", "--dry_run"])
    said = capsys.readouterr().out
    assert "model.safetensors" in said
    assert "written" not in said
    assert not target.exists()


# Uploads


def test_upload_of_a_folder(
    model: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", f"--model={model}", "--push_to_hub=org/name", "--private"])
    assert capsys.readouterr().out == f"uploaded: {hub.url}/org/name\n"
    assert hub.repos["org/name"]["private"]
    expected = local_files(model)
    readme = expected.pop("README.md").decode()
    found = dict(hub.repos["org/name"]["files"])
    card = found.pop("README.md").decode()
    assert found == expected
    assert 'SentenceTransformer("org/name")' in card
    assert card == readme.replace("path/to/this/folder", "org/name")
    assert sum("/commit/" in path for path in hub.seen) == 1
    main(["export", f"--model={model}", "--push_to_hub=org/name"])  # again: an update
    assert sum("/commit/" in path for path in hub.seen) == 2


def test_upload_of_a_checkpoint(
    finished_run: FinishedRun, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished_run.folder
    main(["export", f"--ckpt_path={out}/checkpoints/last.ckpt", "--push_to_hub=me/model"])
    assert capsys.readouterr().out.endswith(f"uploaded: {hub.url}/me/model\n")
    files = hub.repos["me/model"]["files"]
    assert files["model.safetensors"] == (out / "final_model" / "model.safetensors").read_bytes()
    assert not hub.repos["me/model"]["private"]
    card: Any = huggingface_hub.ModelCard(files["README.md"].decode()).data
    assert card.eval_results


def test_a_public_repository_does_not_get_what_should_be_private(
    model: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["org/name"] = {"private": False, "files": {}}
    status, said = failing(capsys, f"--model={model}", "--push_to_hub=org/name", "--private")
    assert status == 2
    assert "exists and is public. Nothing was uploaded" in said
    assert hub.repos["org/name"]["files"] == {}


def test_a_hub_that_refuses(
    model: Path,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [f"--model={model}", "--push_to_hub=org/name"]
    (model / "README.md").write_text("no metadata")
    assert "Invalid metadata in README.md" in failing(capsys, *flags)[1]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    status, said = failing(capsys, *flags)
    assert status == 1
    assert "org/name: not uploaded: " in said
    assert "401" in said
    assert "hf_wrong" not in said
    hub.close()
    huggingface_hub.close_session()
    assert "org/name: not uploaded: " in failing(capsys, *flags)[1]


def test_without_a_token(
    model: Path,
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    status, said = failing(capsys, f"--model={model}", "--push_to_hub=org/name")
    assert status == 2
    assert "hf auth login, or set HF_TOKEN" in said
    assert hub.seen == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "give either --ckpt_path FILE, or --model FOLDER"),
        (["--ckpt_path=a", "--model=b"], "give either --ckpt_path FILE, or --model FOLDER"),
        (
            ["--ckpt_path=best", "--output_dir=x"],
            "there is no run in ./out; give the file, such as FOLDER/checkpoints/best.ckpt",
        ),
        (["--ckpt_path=a"], "give --output_dir FOLDER, or --push_to_hub ORG/NAME"),
        (["--model=.", "--dry_run"], "--dry_run and --private need --push_to_hub"),
        (["--model=."], "with --model, say what to do"),
        (["--model=.", "--onnx", "--output_dir=x"], "--output_dir and --base_model go with"),
        (["--model=none", "--push_to_hub=a/b"], "model: none: no such folder"),
        (
            ["--model=RUN", "--push_to_hub=a/b"],
            "has no modules.json; did you mean --model RUN/best_model?",
        ),
        (["--model=RUN/best_model", "--push_to_hub=a/b/c", "--dry_run"], "is not ORG/NAME"),
        (["--model=RUN/best_model", "--push_to_hub=a/b"], "HF_HUB_OFFLINE is set"),
    ],
)
def test_flags_that_do_not_fit(
    flags: list[str],
    reason: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(model.parent)
    status, said = failing(capsys, *(flag.replace("RUN", run) for flag in flags))
    assert status == 2
    assert reason.replace("RUN", run) in said


@pytest.mark.parametrize("name", ["best", "last"])
def test_best_and_last_are_those_of_the_run_in_out(
    name: str,
    run_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_copy.name == "out"
    monkeypatch.chdir(run_copy.parent)
    main(["export", f"--ckpt_path={name}", "--output_dir=named"])
    assert f"checkpoint out/checkpoints/{name}.ckpt, step " in capsys.readouterr().out
    main(["export", f"--ckpt_path=out/checkpoints/{name}.ckpt", "--output_dir=file", "--quiet"])
    assert capsys.readouterr().out == "file: written; load it with SentenceTransformer(folder)\n"
    named, file = (Path(folder) / "model.safetensors" for folder in ("named", "file"))
    assert named.read_bytes() == file.read_bytes()
    said = failing(capsys, f"--ckpt_path={name}", "--output_dir=out")[1]
    assert f"give --ckpt_path out/checkpoints/{name}.ckpt --output_dir exported" in said


def test_a_folder_without_a_card(model: Path, hub: HubServer) -> None:
    shutil.copytree(model, model.parent / "bare")
    (model.parent / "bare" / "README.md").unlink()
    main(["export", f"--model={model.parent}/bare", "--push_to_hub=org/name", "--dry_run"])


def test_links_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "id_rsa").write_text("secret")
    (folder / "a.json").write_text("{}")
    (folder / ".hidden").write_text("")
    for name, target in {"b.json": "a.json", "c": "../id_rsa", "d": ".hidden"}.items():
        (folder / name).symlink_to(target)
    assert list(files_to_upload(folder)) == ["a.json", "b.json"]
