import hashlib
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    "writing", ["part.write_bytes(bytes(9000))", "import torch; torch.save({'a': torch.zeros(4000)}, open(part, 'wb'))"]
)
def test_a_disk_that_is_really_full_is_one_sentence_and_what_was_there_stays(tmp_path, writing):
    """A file may grow to 4 KiB in this process."""
    code = f"""
import resource
from mlclib.common import files
from mlclib.common.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
files.write_text({str(tmp_path / "kept")!r}, "old")
try:
    with files.written_whole({str(tmp_path / "kept")!r}) as part:
        {writing}
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith(f"{tmp_path / 'kept'} could not be written (File too large): free some"), done.stderr
    assert (tmp_path / "kept").read_text() == "old" and list(tmp_path.iterdir()) == [tmp_path / "kept"]
