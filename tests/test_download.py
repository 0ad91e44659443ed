"""Downloads from a loopback server that serves small archives in the true layout and misbehaves on request."""

import contextlib
import functools
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
import zipfile

import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock
from mlclib.datasets import download
from mlclib.datasets.base import Archive

VOC = "VOCdevkit/VOC2007"
TRAINVAL = {f"{VOC}/ImageSets/Main/trainval.txt": b"000001\n", f"{VOC}/JPEGImages/000001.jpg": os.urandom(300_000)}
TEST = {f"{VOC}/ImageSets/Main/test.txt": b"000002\n", f"{VOC}/JPEGImages/000002.jpg": os.urandom(200_000)}


def packed(name: str, members: dict[str, bytes]) -> bytes:
    """The members as the bytes of a tar or zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") if name.endswith(".zip") else tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in members.items():
            if name.endswith(".zip"):
                archive.writestr(member, content)
            else:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Host:
    """Serves `files`. cut: bytes after which an answer breaks off; ranges: whether it can resume; status: an error."""

    def __init__(self):
        self.files, self.asked, self.cut, self.ranges, self.status = {}, [], None, True, 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def archive(self, name: str, members: dict[str, bytes], **changes) -> Archive:
        content = self.files[f"/{name}"] = packed(name, members)
        url = f"http://127.0.0.1:{self.server.server_port}/{name}"
        facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "holds": next(iter(members))}
        return Archive(url=url, **{**facts, **changes})


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, host, *arguments):
        self.host = host
        super().__init__(*arguments)

    def do_GET(self):
        wanted, content = self.headers.get("Range", ""), self.host.files.get(self.path)
        self.host.asked.append((self.path, wanted))
        if self.host.status or content is None:
            self.send_error(self.host.status or 404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.host.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:] if self.host.cut is None else content[start : start + self.host.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def offer(monkeypatch):
    """Makes archives those of VOC 2007."""
    return lambda *archives: monkeypatch.setattr(datasets, "archives", lambda name: list(archives)) or archives


@pytest.fixture
def voc(host, offer):
    return offer(host.archive("trainval.tar", TRAINVAL), host.archive("test.tar", TEST))


def contents(root) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file() and "archives" not in p.relative_to(root).parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def put(root, name: str, content: bytes) -> None:
    (root / "archives").mkdir(exist_ok=True)
    (root / "archives" / name).write_bytes(content)


def test_archives_are_fetched_verified_merged_and_never_fetched_twice(host, voc, tmp_path):
    assert download.get("voc2007", tmp_path) == [tmp_path / archive.holds for archive in voc]
    assert contents(tmp_path) == TRAINVAL | TEST
    assert not list((tmp_path / "archives").glob("[!.]*"))
    assert download.get("voc2007", tmp_path) == [] and len(host.asked) == 2


def test_what_someone_else_unpacked_is_left_alone(host, voc, tmp_path):
    path = tmp_path / VOC / "ImageSets" / "Main" / "trainval.txt"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    download.get("voc2007", tmp_path)
    assert [name for name, _ in host.asked] == ["/test.tar"] and path.read_text() == "mine"


def test_a_cut_connection_is_resumed_where_it_broke_or_from_the_start(host, voc, tmp_path):
    host.cut = 120_000
    download.get("voc2007", tmp_path / "resumed")
    assert contents(tmp_path / "resumed") == TRAINVAL | TEST
    starts = [int(wanted[6:-1]) for name, wanted in host.asked if name == "/trainval.tar" and wanted]
    assert starts == list(range(120_000, len(host.files["/trainval.tar"]), 120_000))
    put(tmp_path, "trainval.tar.part", host.files["/trainval.tar"][:1000])
    host.cut, host.ranges, host.asked = None, False, []
    download.get("voc2007", tmp_path)
    assert host.asked[0] == ("/trainval.tar", "bytes=1000-") and contents(tmp_path)[f"{VOC}/ImageSets/Main/test.txt"]


@pytest.mark.parametrize(
    ("trouble", "tries", "message"),
    [
        ({"cut": 0}, download.TRIES, "the connection was cut"),
        ({"status": 503}, download.TRIES, "503 Service Unavailable"),
        ({"files": {}}, 1, "404 Not Found"),
    ],
)
def test_a_host_in_trouble_is_given_up_with_the_way_by_hand(host, voc, tmp_path, trouble, tries, message):
    vars(host).update(trouble)
    with pytest.raises(UserError, match=message) as error:
        download.get("voc2007", tmp_path)
    assert len(host.asked) == tries
    for words in (voc[0].url, voc[0].sha256, str(tmp_path / "archives" / "trainval.tar")):
        assert words in str(error.value)


def test_no_network_names_the_url(offer, tmp_path):
    offer(Archive("http://127.0.0.1:9/a.tar", 10, "0" * 64, "a"))  # nobody listens on port 9
    with pytest.raises(UserError, match=r"refused.*download http://127.0.0.1:9/a.tar .*SHA-256 0{64}\) to .*a.tar"):
        download.get("voc2007", tmp_path)


def test_an_archive_downloaded_by_hand_is_used_or_refused(host, voc, tmp_path):
    put(tmp_path, "trainval.tar", host.files["/test.tar"])
    with pytest.raises(UserError, match=r"trainval.tar has the SHA-256 .*, not .*; remove it and run again"):
        download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {}
    for archive in voc:
        put(tmp_path, archive.name, host.files[f"/{archive.name}"])
    download.get("voc2007", tmp_path)
    assert host.asked == [] and contents(tmp_path) == TRAINVAL | TEST


def test_wrong_bytes_are_thrown_away_and_never_unpacked(host, voc, tmp_path):
    host.files["/trainval.tar"] = bytes(len(host.files["/trainval.tar"]) + 9_999_999)  # and too many of them
    with pytest.raises(UserError, match=r"trainval.tar gave wrong bytes .*run this again"):
        download.get("voc2007", tmp_path)
    assert contents(tmp_path) == {} and not list((tmp_path / "archives").glob("trainval*"))
    host.archive("trainval.tar", TRAINVAL)
    download.get("voc2007", tmp_path)
    assert contents(tmp_path) == TRAINVAL | TEST


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_nothing_lands_outside(host, offer, tmp_path, name):
    offer(host.archive(name, {"../out.txt": b"x", "a.txt": b"y"}, holds="a.txt"))
    with contextlib.suppress(tarfile.FilterError):  # tarfile refuses, zipfile leaves the member out
        download.get("voc2007", tmp_path / "root")
        assert name == "a.zip" and contents(tmp_path / "root")["a.txt"] == b"y"
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_full_disk_is_one_sentence_before_the_first_byte_or_when_it_fills_up(host, voc, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda path: type("usage", (), {"free": 600_000}))
        with pytest.raises(UserError, match=r"needs 0.0 GB more and has 0.0 GB; free some or change --root"):
            download.get("voc2007", tmp_path)
    assert host.asked == []
    full = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(UserError, match="could not be written .No space left on device.: free some disk"):
        download.get("voc2007", tmp_path)


def test_two_at_once_are_kept_apart_and_an_archive_behind_a_login_is_asked_for(host, voc, offer, tmp_path):
    busy = pytest.raises(UserError, match="the download into .* is at work already")
    with file_lock(tmp_path / "archives" / ".lock", "another"), busy:
        download.get("voc2007", tmp_path)
    offer(voc[0], host.archive("test.tar", TEST, login=True))
    with pytest.raises(UserError, match=r"test.tar needs a free account: download .* to .*test.tar and run again"):
        download.get("voc2012", tmp_path)
    assert contents(tmp_path) == TRAINVAL  # what can be fetched is


CHILD = """
import os, sys
from mlclib import datasets
from mlclib.datasets import download
from mlclib.datasets.base import Archive
datasets.archives = lambda name: [Archive(*row) for row in {rows!r}]
module, name, at = sys.argv[2].split(":")
place = {{"os": os, "download": download, "shutil": download.shutil, "Path": download.Path}}[module]
real, count = getattr(place, name), 0
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
    code = CHILD.format(rows=[(a.url, a.size, a.sha256, a.holds) for a in voc])
    # While downloading, verified, before the first is unpacked, within the second, and before an archive is removed.
    for step in ("download:sha256:1", "os:replace:2", "shutil:unpack_archive:1", "os:utime:3", "Path:unlink:3"):
        root = tmp_path / step.replace(":", "-")
        assert subprocess.run([sys.executable, "-c", code, root, step]).returncode == -signal.SIGKILL, step
        download.get("voc2007", root)
        assert contents(root) == TRAINVAL | TEST, step
        assert not list((root / "archives").glob("[!.]*")), step


def test_each_data_set_has_archives_or_says_how_it_is_brought_by_hand(tmp_path):
    with pytest.raises(UserError, match=r"unknown data set 'voc2008'.*coco2014"):
        datasets.archives("voc2008")
    archives = {name: datasets.archives(name) for name in datasets.NAMES}
    assert [len(archives[name]) for name in ("voc2007", "voc2012", "voc2007+2012", "coco2014")] == [2, 2, 4, 3]
    for archive in (archive for own in archives.values() for archive in own):
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
        assert re.match(r"https?://(thor|host)\.robots\.ox\.ac\.uk|http://images\.cocodataset\.org", archive.url)
    for name in (name for name, own in archives.items() if not own):
        with pytest.raises(UserError) as error:
            download.get(name, tmp_path)
        assert name == "scenes" or str(tmp_path) in str(error.value)
