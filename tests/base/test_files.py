import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from lgn_lightning.base.files import atomic_folder, atomic_path, atomic_write_bytes, atomic_write_text


def test_writes_text_and_bytes_and_makes_folders(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "new" / "deeper" / "a.c", "int x; // µ\n")
    atomic_write_bytes(str(tmp_path / "b.bin"), b"\0\r\n")
    assert (tmp_path / "new" / "deeper" / "a.c").read_bytes() == "int x; // µ\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\0\r\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.bin", "new"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "net.so"
    target.write_text("old")

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_is_beside_the_target_with_its_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "net.so") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".so"
        assert not (tmp_path / "net.so").exists()
        temporary.write_text("new")
    assert (tmp_path / "net.so").read_text() == "new"


def test_a_block_that_removes_its_file_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(target) as temporary:
        temporary.unlink()
    assert target.read_text() == "old"


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "a", "")
        with atomic_path(tmp_path / "b") as temporary:
            temporary.chmod(0o750)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"cannot write to folder {tmp_path}/file .*choose a writable one"):
        atomic_write_text(tmp_path / "file" / "a", "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(PermissionError, match="cannot write to folder"):
        atomic_write_text(folder / "a", "text")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    for text in ("old", "new"):
        with atomic_folder(target) as temporary:
            assert not list(temporary.iterdir())
            (temporary / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_ctrl_c_between_the_two_names_leaves_the_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "folder", Path.rename
    folder.mkdir()

    def interrupted(path: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background
    try:
        with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as new:
            (new / "file").touch()
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "file"]


def test_a_new_name_that_cannot_be_given_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "folder", Path.rename
    folder.mkdir()
    (folder / "old").touch()

    def failing(path: Path, target: Path) -> None:
        if path.name == "new":
            raise OSError(errno.EIO, "failed")
        rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="failed"), atomic_folder(folder) as new:
        (new / "file").touch()
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "old"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as temporary:
        (temporary / "file").write_text("")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["file"]


def test_what_is_renamed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    for name in ("replace", "rename"):
        plain = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda self, to, plain=plain: events.append("renamed") or plain(self, to))
    atomic_write_text(tmp_path / "a.txt", "text")
    assert [event.endswith(".txt") for event in events] == [True, False, False]
    assert events[1:] == ["renamed", tmp_path.name]
    events.clear()
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "b").touch()
    assert events == ["b", "new", *["renamed"] * (len(events) - 3), tmp_path.name]


def test_file_systems_that_cannot_be_asked_are_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    atomic_write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_a_disk_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    atomic_write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        atomic_write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
