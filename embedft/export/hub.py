"""Uploads an exported model to the Hugging Face hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from embedft.errors import InputError, RunFailedError
from embedft.export.model_card import with_model_id
from embedft.tools.text import one_line, printable, without_secrets


def files_to_upload(folder: Path) -> dict[str, Path]:
    """The files of a model by their path on the hub, without hidden files and links out of it."""
    folder = folder.resolve()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path
        for name, path in sorted(files.items())
        if path.is_file() and _is_shown(path, folder) and _is_shown(path.resolve(), folder)
    }


def _is_shown(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, and no part of it is hidden."""
    return path.is_relative_to(folder) and not any(
        part.startswith(".") for part in path.relative_to(folder).parts
    )


def check_repo_id(repo_id: str) -> None:
    """Checks that a repository id is ORG/NAME.

    Raises:
        InputError: It is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise InputError(
            f"push_to_hub: {repo_id!r} is not ORG/NAME (letters, digits, '-', '_', '.', 96 at most)"
        ) from None


def check_token() -> None:
    """Checks that there is a token for the hub.

    Raises:
        InputError: There is none, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError("push_to_hub: HF_HUB_OFFLINE is set. Unset it, or use --dry_run")
    if get_token() is None:
        raise InputError(
            "push_to_hub: no token for the hub. Type: hf auth login, or set HF_TOKEN to a token "
            "with write access (https://huggingface.co/settings/tokens). --dry_run needs no token"
        )


def _read_card(folder: Path, repo_id: str) -> str:
    """The model card for this repository; empty if the folder has none."""
    path = folder / "README.md"
    return with_model_id(path.read_text(encoding="utf-8"), repo_id) if path.is_file() else ""


def upload_plan(folder: Path, repo_id: str, private: bool) -> str:
    """Lists what :func:`upload` would upload, and to which repository."""
    from huggingface_hub import ModelCard, constants

    sizes = {name: path.stat().st_size for name, path in files_to_upload(folder).items()}
    metadata: Any = ModelCard(_read_card(folder, repo_id), ignore_metadata_errors=True).data
    lines = [
        f"would upload to {without_secrets(constants.ENDPOINT)}/{repo_id} "
        f"({'private' if private else 'public'}), "
        "in one commit:",
        *(f"{size / 1e3:12,.1f} kB  {printable(name, 300)}" for name, size in sizes.items()),
        f"{sum(sizes.values()) / 1e3:12,.1f} kB  in {len(sizes)} files",
    ]
    if metadata.license is None:
        lines.append(
            "README.md names no license. Check the licenses of the base model and of your data, "
            "then add a line such as license: apache-2.0 to its metadata block"
        )
    return "\n".join(lines)


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """Creates the repository if needed, and commits all files at once.

    Args:
        folder: The exported model.
        repo_id: ORG/NAME.
        private: Create a private repository, and refuse to upload to a public one.

    Returns:
        The URL of the repository.

    Raises:
        InputError: ``private`` is set and the repository is public.
        RunFailedError: The upload failed.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        disable_progress_bars,
        enable_progress_bars,
    )

    contents: dict[str, Any] = files_to_upload(folder)
    api = HfApi(library_name="embedft")
    try:
        if not sys.stderr.isatty():
            disable_progress_bars()
        url = api.create_repo(repo_id, private=private or None, exist_ok=True)
        repo_id = url.repo_id  # with the user's name if ORG is left out
        contents["README.md"] = _read_card(folder, repo_id).encode()
        if private and not api.model_info(repo_id).private:
            raise InputError(f"push_to_hub: {url} exists and is public. Nothing was uploaded")
        api.create_commit(
            repo_id,
            [CommitOperationAdd(name, content) for name, content in contents.items()],
            commit_message="Upload a model fine-tuned with embedft",
        )
    except InputError:
        raise
    except Exception as error:  # from the hub, HTTP or the files
        causes = [error] if error.__cause__ is None else [error, error.__cause__]
        reason = without_secrets(" ".join(map(str, causes)), get_token())
        reason = one_line(reason, 300)
        raise RunFailedError(f"{repo_id}: not uploaded: {reason}") from None
    finally:
        enable_progress_bars()
    return str(url)
