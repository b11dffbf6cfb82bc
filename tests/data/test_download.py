"""Downloads into a folder: all files of a data set or none, on the way that MNIST goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torchvision

from lgn_lightning.data import MNIST, DataError
from tests.data.conftest import publish


@pytest.fixture
def mirror(write_mnist: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packed files, served on this machine as the only mirror of MNIST."""
    root = write_mnist(packed=True, root="mirror")
    publish(root, monkeypatch)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root / "MNIST/raw"))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield root
        server.shutdown()


def test_download_in_prepare_data(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mirror.parent / "new" / "root"
    data = MNIST(root=str(root))
    with pytest.raises(DataError, match="not found"):
        data.setup("fit")  # never downloads
    data.prepare_data()
    data.setup()
    names = [name.removesuffix(".gz") for name, _ in torchvision.datasets.MNIST.resources]
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(
        f"MNIST/raw/{name}" for name in names
    )
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    data.prepare_data()  # finds the files


@pytest.mark.parametrize("fault", ["a file is not there", "a file is cut short"])
def test_failed_download_leaves_nothing(mirror: Path, fault: str) -> None:
    last = mirror / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    if fault == "a file is not there":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:20])
    root = mirror.parent / "new" / "root"
    with pytest.raises(DataError, match=rf"could not download to {root} .*LGN_DATA_ROOT") as caught:
        MNIST(root=str(root)).prepare_data()
    assert len(str(caught.value).splitlines()) == 1
    assert not root.parent.exists()


def test_download_to_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"could not download to .*file/root .*writable"):
        MNIST(root=str(tmp_path / "file" / "root")).prepare_data()
