"""Downloads against a loopback server that serves small archives in the true layout and misbehaves on request."""

import hashlib
import http.server
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import download
from mlclib.datasets import voc as reader
from mlclib.datasets.base import Archive


def tar_of(members: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return out.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


VOC = "VOCdevkit/VOC2007"
TRAINVAL = {f"{VOC}/ImageSets/Main/trainval.txt": b"000001\n", f"{VOC}/JPEGImages/000001.jpg": os.urandom(300_000)}
TEST = {f"{VOC}/ImageSets/Main/test.txt": b"000002\n", f"{VOC}/JPEGImages/000002.jpg": os.urandom(200_000)}


class Host(http.server.ThreadingHTTPServer):
    """Serves `files`. cut: bytes after which an answer breaks off; ranges: whether it can resume; status: an error."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges, self.status, self.pause = True, 0, 0.0
        self.asked: list[tuple[str, str]] = []

    def archive(self, name: str, content: bytes, holds: str, **changes) -> download.Archive:
        self.files[f"/{name}"] = content
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "unpacked": len(content)}
        return Archive(url=url, holds=holds, **{**known, **changes})


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host, wanted = self.server, self.headers.get("Range", "")
        host.asked.append((self.path, wanted))
        content = host.files.get(self.path)
        if host.status or content is None:
            self.send_error(host.status or 404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and host.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:] if host.cut is None else content[start : start + host.cut]
        for i in range(0, len(body), 65536):
            self.wfile.write(body[i : i + 65536])
            time.sleep(host.pause)

    def log_message(self, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    server = Host()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def voc(host, monkeypatch):
    """VOC 2007 as two tar archives on the host."""
    archives = (
        host.archive("trainval.tar", tar_of(TRAINVAL), f"{VOC}/ImageSets/Main/trainval.txt"),
        host.archive("test.tar", tar_of(TEST), f"{VOC}/ImageSets/Main/test.txt"),
    )
    monkeypatch.setitem(reader.ARCHIVES, "voc2007", archives)
    return archives


def serve(host, monkeypatch, name: str, content: bytes, holds: str = "a.txt", **changes) -> download.Archive:
    archive = host.archive(name, content, holds, **changes)
    monkeypatch.setitem(reader.ARCHIVES, "voc2007", (archive,))
    return archive


def contents(root) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file() and "archives" not in p.relative_to(root).parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def test_archives_are_fetched_verified_and_merged(host, voc, tmp_path):
    fetched = download.get("voc2007", tmp_path)
    assert contents(tmp_path) == TRAINVAL | TEST
    assert fetched == [tmp_path / a.holds for a in voc]
    assert sorted(p.name for p in (tmp_path / "archives").iterdir()) == [".lock", "test.tar.done", "trainval.tar.done"]


def test_nothing_is_fetched_twice(host, voc, tmp_path):
    download.get("voc2007", tmp_path)
    asked = len(host.asked)
    assert download.get("voc2007", tmp_path) == []
    assert len(host.asked) == asked == 2


def test_what_someone_else_unpacked_is_left_alone(host, voc, tmp_path):
    path = tmp_path / VOC / "ImageSets" / "Main" / "trainval.txt"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    download.get("voc2007", tmp_path)
    assert [name for name, _ in host.asked] == ["/test.tar"] and path.read_text() == "mine"


def test_zip_archives(host, tmp_path, monkeypatch):
    members = {"annotations/": b"", "annotations/a.json": b"{}", "b.txt": b"text" * 9999}
    serve(host, monkeypatch, "a.zip", zip_of(members), "b.txt")
    download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {"annotations/a.json": b"{}", "b.txt": b"text" * 9999}


def test_a_cut_connection_is_resumed_where_it_broke(host, voc, tmp_path):
    host.cut = 120_000
    download.get("voc2007", tmp_path)
    assert contents(tmp_path) == TRAINVAL | TEST
    starts = [int(wanted[6:-1]) for name, wanted in host.asked if name == "/trainval.tar" and wanted]
    assert starts == list(range(120_000, len(host.files["/trainval.tar"]), 120_000))


def test_a_host_that_cannot_resume_is_asked_from_the_start(host, voc, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "trainval.tar.part").write_bytes(host.files["/trainval.tar"][:1000])
    host.ranges = False
    download.get("voc2007", tmp_path)
    assert host.asked[0] == ("/trainval.tar", "bytes=1000-")
    assert contents(tmp_path) == TRAINVAL | TEST


def test_a_host_that_breaks_off_at_once_is_given_up_with_the_way_by_hand(host, voc, tmp_path):
    host.cut = 0
    with pytest.raises(UserError) as error:
        download.get("voc2007", tmp_path)
    text = str(error.value)
    assert "the connection was cut" in text and len(host.asked) == download.TRIES
    assert voc[0].url in text and voc[0].sha256 in text and str(tmp_path / "archives" / "trainval.tar") in text


def test_no_network_is_one_sentence_with_url_path_and_checksum(host, voc, tmp_path, monkeypatch):
    away = Archive("http://127.0.0.1:9/a.tar", 10, "0" * 64, "a", 10)  # nobody listens on port 9
    monkeypatch.setitem(reader.ARCHIVES, "voc2007", (away,))
    with pytest.raises(
        UserError, match=r"refused.*download http://127.0.0.1:9/a.tar .*SHA-256 0{64}\) to .*a.tar and run"
    ):
        download.get("voc2007", tmp_path)


def test_an_archive_put_there_by_hand_is_used(host, voc, tmp_path):
    (tmp_path / "archives").mkdir()
    for name in ("trainval.tar", "test.tar"):
        (tmp_path / "archives" / name).write_bytes(host.files[f"/{name}"])
    download.get("voc2007", tmp_path)
    assert host.asked == [] and contents(tmp_path) == TRAINVAL | TEST


def test_a_wrong_archive_put_there_by_hand_is_refused(host, voc, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "trainval.tar").write_bytes(host.files["/test.tar"])
    with pytest.raises(UserError, match=r"trainval.tar has the SHA-256 .*, not .*; remove it and run again"):
        download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {}


def test_wrong_bytes_are_thrown_away_and_never_unpacked(host, voc, tmp_path):
    good = host.files["/trainval.tar"]
    host.files["/trainval.tar"] = good[:5000] + bytes([good[5000] ^ 1]) + good[5001:]
    with pytest.raises(UserError, match=r"trainval.tar gave wrong bytes .*run this again"):
        download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {} and not list((tmp_path / "archives").glob("trainval*"))
    host.files["/trainval.tar"] = good
    download.get("voc2007", tmp_path)
    assert contents(tmp_path) == TRAINVAL | TEST


def test_a_file_longer_than_it_should_be_does_not_fill_the_disk(host, tmp_path, monkeypatch):
    content = tar_of({"a.txt": os.urandom(3_000_000)})
    serve(host, monkeypatch, "a.tar", content, size=1000, sha256="0" * 64)
    sizes = []
    monkeypatch.setattr(download, "sha256", lambda path: sizes.append(path.stat().st_size) or "1" * 64)
    with pytest.raises(UserError, match=r"cannot fetch a.tar \(the host sends more than the 1000 bytes"):
        download.get("voc2007", tmp_path)
    assert not sizes and all(p.stat().st_size <= 2 << 20 for p in (tmp_path / "archives").iterdir())


def test_a_part_longer_than_the_file_on_the_host_is_begun_anew(host, tmp_path, monkeypatch):
    content = tar_of({"a.txt": b"x"})
    serve(host, monkeypatch, "a.tar", content)
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "a.tar.part").write_bytes(b"?" * (len(content) + 7))
    download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {"a.txt": b"x"}


def test_404_names_the_url_and_the_way_by_hand(host, voc, tmp_path):
    del host.files["/trainval.tar"]
    with pytest.raises(UserError, match=r"trainval.tar answers 404 Not Found; .*SHA-256"):
        download.get("voc2007", tmp_path)
    assert len(host.asked) == 1


def test_a_host_in_trouble_is_asked_again(host, voc, tmp_path):
    host.status = 503
    with pytest.raises(UserError, match="503"):
        download.get("voc2007", tmp_path)
    assert len(host.asked) == download.TRIES


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


EVIL = {
    "traversal": tar_of({"a.txt": b"x", "../out.txt": b"x"}),
    "deep traversal": tar_of({"a.txt": b"x", "b/../../out.txt": b"x"}),
    "absolute": tar_of({"a.txt": b"x", "/tmp/out.txt": b"x"}),
    "link out": tar_of({"a.txt": b"x"}, special("b", tarfile.SYMTYPE, "/etc")),
    "hard link": tar_of({"a.txt": b"x"}, special("b", tarfile.LNKTYPE, "a.txt")),
    "device": tar_of({"a.txt": b"x"}, special("b", tarfile.CHRTYPE)),
    "pipe": tar_of({"a.txt": b"x"}, special("b", tarfile.FIFOTYPE)),
    "backslash": tar_of({"a.txt": b"x", "..\\out.txt": b"x"}),
}


@pytest.mark.parametrize("kind", EVIL)
def test_members_that_are_no_plain_files_inside_are_refused(host, tmp_path, monkeypatch, kind):
    root = tmp_path / "root"
    serve(host, monkeypatch, "a.tar", EVIL[kind])
    with pytest.raises(UserError, match="which is no plain file inside it"):
        download.get("voc2007", root)
    assert contents(root) == {} and [p.name for p in tmp_path.iterdir()] == ["root"]


def test_zip_members_are_held_to_the_same(host, tmp_path, monkeypatch):
    link = zipfile.ZipInfo("b")
    link.external_attr = 0o120777 << 16
    for name, content in (("../out.txt", "x"), (link, "/etc")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(name, content)
        serve(host, monkeypatch, "a.zip", out.getvalue())
        with pytest.raises(UserError, match="which is no plain file inside it"):
            download.get("voc2007", tmp_path / "root")
        (tmp_path / "root" / "archives" / "a.zip").unlink()


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_a_truncated_archive_is_refused_and_leaves_nothing(host, tmp_path, monkeypatch, name):
    members = {"a.txt": b"x", "b.bin": os.urandom(50_000)}
    content = (tar_of if name == "a.tar" else zip_of)(members)[:30_000]
    serve(host, monkeypatch, name, content)
    with pytest.raises(UserError, match=f"{name} is no whole archive"):
        download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {}


def test_an_archive_without_the_expected_file_is_refused(host, tmp_path, monkeypatch):
    serve(host, monkeypatch, "a.tar", tar_of({"b.txt": b"x"}))
    with pytest.raises(UserError, match=r"did not bring .*a.txt"):
        download.get("voc2007", tmp_path)


def test_too_small_a_disk_is_said_before_the_first_byte(host, voc, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 600_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 0.0 GB more and has 0.0 GB; free some or change --root"):
        download.get("voc2007", tmp_path)
    assert host.asked == []


def test_two_at_once_are_kept_apart(host, voc, tmp_path):
    (tmp_path / "archives").mkdir()
    with download._alone(tmp_path / "archives"), pytest.raises(UserError, match="another process is fetching"):
        download.get("voc2007", tmp_path)


def test_an_archive_behind_a_login_is_asked_for(host, voc, tmp_path, monkeypatch):
    secret = host.archive("test.tar", tar_of(TEST), f"{VOC}/ImageSets/Main/test.txt", login=True)
    monkeypatch.setitem(reader.ARCHIVES, "voc2012", (voc[0], secret))
    with pytest.raises(UserError, match=r"test.tar needs a free account: download .* to .*test.tar and run this again"):
        download.get("voc2012", tmp_path)
    assert contents(tmp_path) == TRAINVAL  # what can be fetched is


CHILD = """
import os, sys
from mlclib.datasets import download, voc
from mlclib.datasets.base import Archive
archives = tuple(Archive(*row) for row in {rows!r})
voc.ARCHIVES["voc2007"] = archives
step, count = sys.argv[2], 0
if step:
    # Die as by SIGKILL at the n-th call of one operation.
    module, name, at = step.split(":")
    place = {{"os": os, "download": download, "shutil": download.shutil, "Path": download.Path}}[module]
    real = getattr(place, name)
    def dying(*args, **options):
        global count
        count += 1
        if count == int(at):
            os.kill(os.getpid(), 9)
        return real(*args, **options)
    setattr(place, name, dying)
download.get("voc2007", sys.argv[1])
"""


def test_a_kill_at_any_point_leaves_a_state_that_completes(host, voc, tmp_path):
    rows = [(a.url, a.size, a.sha256, a.holds, a.unpacked) for a in voc]
    code = CHILD.format(rows=rows)
    env = {**os.environ, "no_proxy": "*"}

    def run(root, step=""):
        return subprocess.run([sys.executable, "-c", code, root, step], env=env, capture_output=True).returncode

    steps = ["download:sha256:1", "os:replace:1", "os:replace:2", "os:replace:3", "os:replace:5", "os:replace:6"]
    steps += ["shutil:copyfileobj:2", "shutil:rmtree:2", "download:write_text:2", "Path:unlink:2", "Path:unlink:4"]
    for step in steps:
        root = tmp_path / step.replace(":", "-")
        assert run(root, step) == -signal.SIGKILL, step
        download.get("voc2007", root)
        assert contents(root) == TRAINVAL | TEST, step
        left = {p.name for p in (root / "archives").iterdir() if not p.name.startswith(".")}
        assert left == {"trainval.tar.done", "test.tar.done"}, step


def test_a_kill_in_the_middle_of_a_download_resumes(host, voc, tmp_path):
    rows = [(a.url, a.size, a.sha256, a.holds, a.unpacked) for a in voc]
    host.pause, part = 0.1, tmp_path / "archives" / "trainval.tar.part"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(rows=rows), tmp_path, ""], env={**os.environ, "no_proxy": "*"}
    )
    end = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < end:
        time.sleep(0.01)
    child.kill()
    child.wait()
    have = part.stat().st_size
    assert 0 < have < voc[0].size
    host.pause = 0
    download.get("voc2007", tmp_path)
    assert ("/trainval.tar", f"bytes={have}-") in host.asked
    assert contents(tmp_path) == TRAINVAL | TEST


@pytest.mark.parametrize("name", [name for name in datasets.NAMES if not datasets.archives(name)])
def test_data_sets_to_fetch_by_hand_say_how(tmp_path, name):
    with pytest.raises(UserError) as error:
        download.get(name, tmp_path)
    assert name == "scenes" or str(tmp_path) in str(error.value)


def test_an_unknown_data_set_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"unknown data set 'voc2008'.*coco2014"):
        download.get("voc2008", tmp_path)


def test_the_table_of_archives_is_well_formed():
    for name in datasets.NAMES:
        for archive in datasets.archives(name):
            assert re.fullmatch("[0-9a-f]{64}", archive.sha256) and archive.size <= archive.unpacked
            assert re.match(r"https?://(thor|host)\.robots\.ox\.ac\.uk|http://images\.cocodataset\.org", archive.url)
