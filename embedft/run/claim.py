"""Which fit may write into an output folder, and what it may delete there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from embedft.errors import InputError
from embedft.run.folder import RunFolder, check_writable


class Claim:
    """The claim of one fit on its output folder.

    A fit looks at the folder before it reads its data, which may take minutes, and locks it
    afterwards. Under the lock it looks again: nothing that another run wrote meanwhile is lost.

    Args:
        folder: The folder; the claim remembers what it holds now.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._lock = FileLock(folder.lock_file)
        self._seen = self._look()
        self._resumes = self._overwrite = False

    def _look(self) -> dict[Path, tuple[int, ...]]:
        """The files of a run that exist, with what tells whether one was written again."""
        files: dict[Path, tuple[int, ...]] = {}
        for path in (*self.folder.files(), self.folder.training_progress):
            with suppress(OSError):  # a running fit may delete it between the two calls
                status = path.lstat()
                files[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return files

    def check(
        self, ckpt_path: str | None, overwrite: bool, inputs: Mapping[str, Iterable[str | Path]]
    ) -> None:
        """Refuses a folder that holds another run or files of the user, or that can't be written.

        Args:
            ckpt_path: The checkpoint to resume from; None for a new run.
            overwrite: Whether the files of an earlier run will be deleted.
            inputs: What the fit reads, by flag: none of it may be among what it deletes.

        Raises:
            InputError: The folder may not be used.
        """
        if rank_zero_only.rank:  # the first rank has decided, and may have begun to write
            return
        folder = self.folder
        if folder.path.is_file():
            raise InputError(f"{folder.path}: is a file; give a folder as --output_dir")
        self._overwrite = overwrite
        # A run that is resumed into another folder is a new run there.
        self._resumes = ckpt_path is not None and _is_in(ckpt_path, folder.path)
        if not self._resumes:
            self._refuse_used()
        replaced = [folder.best_model, folder.final_model] if self._resumes else folder.files()
        for flag, paths in inputs.items():
            for path, target in ((path, target) for path in paths for target in replaced):
                if _is_in(path, target):
                    raise InputError(
                        f"{flag} {path}: is in {target}, which this run would replace; move it, "
                        "or give another --output_dir"
                    )
        check_writable(folder.path, "--output_dir")

    def _refuse_used(self) -> None:
        path, used = self.folder.path, self.folder.files()
        names = ", ".join(list(dict.fromkeys(file.relative_to(path).parts[0] for file in used))[:3])
        if used and not self.folder.holds_run():
            raise InputError(
                f"{path}: has files that no run of embedft wrote, and a run would replace them "
                f"({names}); move them, or give another --output_dir"
            )
        if used and not self._overwrite:
            raise InputError(
                f"{path}: holds another run ({names}); resume it with --ckpt_path last, replace it "
                "with --overwrite, or give another --output_dir"
            )

    def take(self) -> None:
        """Locks the folder until :meth:`release` or the end of this process, and looks again.

        Raises:
            InputError: Another run is writing into the folder, or wrote into it since the claim
                was made.
        """
        path = self.folder.path
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{path}: another run is writing into it; wait until it ends, or give another "
                "--output_dir"
            ) from None
        if self._look() != self._seen:
            self.release()
            raise InputError(
                f"{path}: another run wrote into it while this one read its data; look at its "
                "results, then start again or give another --output_dir"
            )

    def prepare(self) -> None:
        """Makes the folders of a run.

        If ``overwrite`` says so, the files of an earlier run are deleted, and no others. A run that
        is resumed gets back the model that it was replacing when it was killed.
        """
        folder = self.folder
        if self._overwrite and not self._resumes:
            for path in folder.files():
                _delete(path)
            for emptied in (folder.checkpoints, folder.logs):
                with suppress(OSError):  # it has files of the user, or does not exist
                    emptied.rmdir()
        for model in (folder.final_model, folder.best_model):
            for earlier in folder.earlier_models(model):
                if self._resumes and not model.exists():
                    earlier.rename(model)
                else:
                    _delete(earlier)
        for path in folder.half_written():
            _delete(path)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        folder.logs.mkdir(exist_ok=True)

    def release(self) -> None:
        """Lets other runs in."""
        self._lock.release()


def _is_in(path: str | Path, folder: Path) -> bool:
    """Whether a file is in a folder, or is that very file."""
    return Path(path).resolve().is_relative_to(folder.resolve())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
