"""Who may write into an output folder, and what may be deleted there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedft.errors import InputError
from embedft.run.claim import Claim
from embedft.run.folder import RunFolder

Capture = pytest.CaptureFixture[str]
MARK = '{"training_completed": false}'

OF_A_RUN = (
    "checkpoints/last.ckpt",
    "checkpoints/best.ckpt",
    "checkpoints/step-12.ckpt",
    "checkpoints/.last.ckpt.writing-17",
    "logs/embedding_finetuning.log",
    "logs/events.out.tfevents.1.host.2.0",
    "logs/00000/base_model/tensors.tsv",
    "best_model/modules.json",
    ".best_model.earlier-17/modules.json",
    ".final_model.writing-x/modules.json",
    "hpc_ckpt_3.ckpt",
    "metrics.json",
    "config.yaml",
)
OF_THE_USER = (
    "notes.txt",
    "checkpoints/other.ckpt",
    "checkpoints/step-by-step.ckpt",
    "logs/experiments.txt",
    "logs/pairs.jsonl",
    "other_run/.last.ckpt.writing-18",
)


def filled(path: Path, *names: str) -> RunFolder:
    """A folder with these files."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(MARK if name == "training_progress.json" else name)
    return RunFolder(path)


def files_in(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_overwrite_deletes_only_files_of_a_run(tmp_path: Path) -> None:
    folder = filled(tmp_path, *OF_A_RUN, *OF_THE_USER, "training_progress.json")
    claim = Claim(folder)
    claim.check(None, True, {"--input_jsonl": [tmp_path / "logs" / "pairs.jsonl"]})
    claim.take()
    claim.prepare()
    claim.release()
    assert files_in(tmp_path) == {*OF_THE_USER, "training_progress.json", ".lock"}


@pytest.mark.parametrize(
    ("names", "ckpt_path", "overwrite", "inputs", "message"),
    [
        (
            ["training_progress.json", "metrics.json"],
            None,
            False,
            {},
            r"another run \(metrics.json\)",
        ),
        (["checkpoints/last.ckpt"], None, True, {}, r"no run of embedft wrote, .* \(checkpoints\)"),
        (["config.yaml", "metrics.json"], None, True, {}, "no run of embedft wrote"),
        (["training_progress.json", "metrics.json"], "x/last.ckpt", False, {}, "another run"),
        *[
            (["training_progress.json", name], None, True, {flag: [name]}, f"{flag} .*: is in ")
            for flag, name in [
                ("--input_jsonl", "best_model/pairs.jsonl"),
                ("--validation_jsonl", "final_model/pairs.jsonl"),
                ("--data.guard_jsonl", "metrics_by_question.jsonl"),
                ("--config", "config.yaml"),
                ("--base_model", "best_model"),
            ]
        ],
        (
            ["training_progress.json", "best_model/x"],
            "checkpoints/last.ckpt",
            False,
            {"--input_jsonl": ["best_model/x"]},
            "--input_jsonl .*: is in ",
        ),
    ],
)
def test_a_folder_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    ckpt_path: str | None,
    overwrite: bool,
    inputs: dict[str, list[str]],
    message: str,
) -> None:
    out = tmp_path / "out"
    folder = filled(out, *[name for name in names if name != "best_model"])
    if "best_model" in names:
        folder.best_model.mkdir()
    monkeypatch.chdir(out)
    path = (
        None if ckpt_path is None else str((tmp_path if ckpt_path[0] == "x" else out) / ckpt_path)
    )
    with pytest.raises(InputError, match=message):
        Claim(folder).check(path, overwrite, inputs)


def test_a_folder_is_accepted(tmp_path: Path) -> None:
    """Of the user without such files; of a run with ``--overwrite`` or its own checkpoint."""
    Claim(filled(tmp_path / "own", *OF_THE_USER)).check(None, False, {})
    run = filled(tmp_path / "run", *OF_A_RUN, "training_progress.json")
    Claim(run).check(None, True, {"--config": [tmp_path / "config.yaml"]})
    Claim(run).check(str(run.last_checkpoint), False, {"--config": [run.config]})


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_ended_meanwhile_is_kept(tmp_path: Path, overwrite: bool) -> None:
    """A fit that looked at the folder before another one began must not take it afterwards."""
    before = ["training_progress.json", "metrics.json"] if overwrite else []
    claim = Claim(filled(tmp_path, *before))
    claim.check(None, overwrite, {})
    filled(tmp_path, "training_progress.json", "metrics.json", "checkpoints/last.ckpt")
    with pytest.raises(InputError, match="another run wrote into it while this one read its data"):
        claim.take()
    Claim(RunFolder(tmp_path)).take()  # the lock is free again


@pytest.mark.parametrize("resumes", [False, True])
def test_a_model_that_was_being_replaced(tmp_path: Path, resumes: bool) -> None:
    """Killed between two renames: a resumed run has the earlier model until it writes a new one."""
    folder = filled(tmp_path, "training_progress.json", *OF_A_RUN[:3], ".best_model.earlier-17/a")
    claim = Claim(folder)
    claim.check(str(folder.last_checkpoint) if resumes else None, not resumes, {})
    claim.prepare()
    assert (folder.best_model / "a").exists() == resumes
    assert not folder.earlier_models(folder.best_model)


def test_overwrite_keeps_the_base_model(
    fit: Callable[..., Path], run_copy: Path, capsys: Capture
) -> None:
    out = run_copy
    with pytest.raises(SystemExit) as stop:
        fit("--epochs=1", f"--base_model={out}/best_model", "--overwrite")
    assert stop.value.code == 2
    assert "best_model, which this run would replace; move it, or give" in capsys.readouterr().err
    assert (out / "best_model" / "model.safetensors").is_file()


def test_a_locked_folder(tmp_path: Path) -> None:
    """The lock is one of processes, and ends with the process."""
    claim = Claim(RunFolder(tmp_path))
    code = (
        "import sys; from pathlib import Path; from embedft.run.folder import RunFolder\n"
        "from embedft.run.claim import Claim\n"
        "claim = Claim(RunFolder(Path(sys.argv[1]))); claim.take(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another run is writing into it"):
            claim.take()
        process.communicate()
    claim.take()
    claim.release()
