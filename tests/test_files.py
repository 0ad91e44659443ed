import hashlib

import pytest

from mlclib.common import files


def test_a_failed_write_leaves_what_was_there_and_no_leftover(tmp_path):
    path = tmp_path / "kept.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.written_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_makes_its_folders_and_replaces_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    files.write_text(path, "one")
    files.write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert files.sha256(path) == hashlib.sha256("zwei ü".encode()).hexdigest()
