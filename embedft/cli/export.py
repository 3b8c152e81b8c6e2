"""The subcommand ``export``: a checkpoint or model as a folder, as ONNX, or on the hub."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from embedft.encoder.base_model import best_model_of_run
from embedft.errors import InputError
from embedft.export.hub import check_repo_id, check_token, upload, upload_plan
from embedft.export.onnx import check_onnx_installed, write_onnx
from embedft.export.sentence_transformers import export_checkpoint
from embedft.run.folder import DEFAULT_OUTPUT_DIR, RunFolder

log = logging.getLogger(__name__)


def export(
    ckpt_path: str | None = None,
    output_dir: str | None = None,
    base_model: str | None = None,
    overwrite: bool = False,
    model: str | None = None,
    onnx: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """Exports a checkpoint as a sentence-transformers folder or as ONNX, or uploads it.

    Args:
        ckpt_path: Checkpoint file, such as out/checkpoints/best.ckpt; best or last for that of the
            run in out.
        output_dir: Folder to write. Not needed with --push_to_hub.
        base_model: Folder or hub id of the base model, if it has moved since the training.
        overwrite: Replace an existing folder or ONNX file.
        model: An exported folder instead of a checkpoint, such as out/best_model.
        onnx: Also write onnx/model.onnx into the folder.
        push_to_hub: Upload to this repository of the Hugging Face hub, ORG/NAME. Creates it if
            needed.
        private: Make that repository private.
        dry_run: Write and upload nothing; list what would be uploaded.

    Raises:
        InputError: Flags do not fit together, or checkpoint, model or folder can't be used.
        RunFailedError: The hub refuses the upload, or can't be reached.
    """
    if (ckpt_path is None) == (model is None):
        raise InputError("give either --ckpt_path FILE, or --model FOLDER (as out/best_model)")
    if model is not None and (output_dir is not None or base_model is not None):
        raise InputError("--output_dir and --base_model go with --ckpt_path, not with --model")
    if push_to_hub is None and (dry_run or private):
        raise InputError("--dry_run and --private need --push_to_hub ORG/NAME")
    if push_to_hub is None and model is not None and not onnx:
        raise InputError("with --model, say what to do: --push_to_hub ORG/NAME, or --onnx")
    if push_to_hub is None and ckpt_path is not None and output_dir is None:
        raise InputError("give --output_dir FOLDER, or --push_to_hub ORG/NAME")
    if model is not None:
        _check_model(Path(model))
    elif ckpt_path in {"best", "last"} and not Path(ckpt_path).exists():
        ckpt_path = _checkpoint_of_run(ckpt_path, output_dir)
    if push_to_hub is not None:
        check_repo_id(push_to_hub)
        if not dry_run:
            check_token()
    if onnx:
        check_onnx_installed()
    with tempfile.TemporaryDirectory() as scratch:
        if model is not None:
            folder = Path(model)
            if onnx and (folder / "onnx" / "model.onnx").exists() and not overwrite:
                raise InputError(f"{folder}/onnx/model.onnx: exists already; give --overwrite")
            if onnx and dry_run:
                folder = Path(shutil.copytree(folder, Path(scratch) / "model"))
        else:
            kept = output_dir if not dry_run else None
            folder = Path(kept or Path(scratch) / "model")
            export_checkpoint(str(ckpt_path), str(folder), base_model, overwrite)
            if kept:
                print(f"{folder}: written; load it with SentenceTransformer(folder)")
        if onnx:
            path = write_onnx(folder)
            if not dry_run:
                print(f"{path}: written, equal to torch's numbers")
        if push_to_hub is not None and dry_run:
            print(upload_plan(folder, push_to_hub, private))
        elif push_to_hub is not None:
            print(f"uploaded: {upload(folder, push_to_hub, private)}")


def _checkpoint_of_run(name: str, output_dir: str | None) -> str:
    """The file that ``best`` or ``last`` means: that of the run in the default output folder.

    Raises:
        InputError: There is no run, or ``output_dir`` is a run and can't take the export.
    """
    if output_dir is not None and (Path(output_dir) / "checkpoints").is_dir():
        raise InputError(
            f"--output_dir {output_dir}: is a run, but export needs another folder; give "
            f"--ckpt_path {output_dir}/checkpoints/{name}.ckpt --output_dir exported"
        )
    run = RunFolder(Path(DEFAULT_OUTPUT_DIR))
    if not run.checkpoints.is_dir():
        raise InputError(
            f"--ckpt_path {name}: there is no run in ./{run.path}; give the file, such as "
            f"FOLDER/checkpoints/{name}.ckpt"
        )
    path, checkpoint = run.read_checkpoint(name)
    log.info("checkpoint %s, step %d", path, checkpoint["global_step"])
    return str(path)


def _check_model(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"model: {folder}: no such folder")
    if not (folder / "modules.json").is_file():
        inner = best_model_of_run(folder)
        hint = f"; did you mean --model {inner}?" if inner else ""
        raise InputError(f"model: {folder} is not an exported model: it has no modules.json{hint}")
