from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedft.table.columns import ColumnFiles, column_path, open_column, stored_name


def test_a_column_grows_and_keeps_the_type_of_its_first_entries(tmp_path: Path) -> None:
    columns = ColumnFiles(tmp_path)
    columns.append("a", np.array([1, 2], dtype=np.uint16))
    columns.append("a", np.array([3], dtype=np.int64))
    assert columns.read("a").tolist() == [1, 2, 3]
    columns.replace("a", np.array([0.5]))
    columns.append("b", np.empty(0, dtype=np.int32))
    columns.close()
    assert columns.layout == {"a": ("<f8", 1), "b": ("<i4", 0)}
    assert open_column(tmp_path, "a", *columns.layout["a"]).tolist() == [0.5]
    assert len(open_column(tmp_path, "b", *columns.layout["b"])) == 0


def test_a_removed_column_has_no_file(tmp_path: Path) -> None:
    columns = ColumnFiles(tmp_path)
    columns.append("a", np.arange(3))
    columns.remove("a")
    assert not column_path(tmp_path, "a").exists()
    assert columns.layout == {}


def test_a_file_of_another_size_is_damaged(tmp_path: Path) -> None:
    column_path(tmp_path, "a").write_bytes(bytes(9))
    with pytest.raises(ValueError, match="is not 1 numbers of type <i8"):
        open_column(tmp_path, "a", "<i8", 1)


def test_columns_on_disk_keep_the_names_of_older_caches() -> None:
    assert stored_name("question_hash") == "question_key"
    assert stored_name("label") == "label"
