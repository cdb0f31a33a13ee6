"""Fetching over HTTP, from a server on the loopback interface."""

import http.server
import os
import socket
import threading
from pathlib import Path

import pytest

from data.durable_files import StagingError
from data.sources.download import fetch_hanford
from data.sources.hanford import SHA256, read_hanford

FOLDER = Path(
    os.environ.get(
        "HEADRACE_HANFORD_DATA",
        Path(__file__).parents[3].parent / "shared/reference/hanford/data",
    )
)
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no Hanford files; set HEADRACE_HANFORD_DATA"
)
VICTIM = "geom_1x.mat"


class FileServer(http.server.ThreadingHTTPServer):
    """Serves the files, spoiling one of them in the way that a test asks for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.spoil = "nothing"
        self.requested = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.requested.append(name)
        spoil = self.server.spoil if name == VICTIM else "nothing"
        if spoil == "missing":
            self.send_error(404)
            return
        content = (FOLDER / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if spoil == "altered":
            content = bytes(len(content))
        if spoil == "truncated":
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def log_message(self, *_):
        """Keeps the test output clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_fetched_files_are_read_as_the_site(server, tmp_path):
    cache = fetch_hanford(tmp_path / "cache", server.url)
    assert sorted(path.name for path in cache.iterdir()) == sorted(SHA256)
    assert read_hanford(cache).n_cells == 1475


def test_files_in_the_cache_are_not_fetched_again(server, tmp_path):
    fetch_hanford(tmp_path, server.url)
    (tmp_path / "bc_1x.mat").write_bytes(b"damaged since")
    server.requested.clear()
    fetch_hanford(tmp_path, server.url)
    assert server.requested == ["bc_1x.mat"]
    assert read_hanford(tmp_path).n_cells == 1475


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("altered", "a file with another sha256"),
        ("truncated", "a transfer that broke off"),
        ("missing", "HTTP status 404"),
    ],
)
def test_a_spoilt_transfer_is_one_sentence_and_leaves_no_file(
    server, tmp_path, spoil, reason
):
    server.spoil = spoil
    with pytest.raises(StagingError, match=reason) as caught:
        fetch_hanford(tmp_path, server.url)
    message = str(caught.value)
    assert server.url + VICTIM in message
    assert "--data DIR" in message
    assert "\n" not in message
    # files fetched before the failure are whole and stay; nothing else is there
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == set(server.requested) - {VICTIM}


def test_a_failed_fetch_goes_on_where_it_stopped(server, tmp_path):
    server.spoil = "truncated"
    with pytest.raises(StagingError):
        fetch_hanford(tmp_path, server.url)
    server.spoil = "nothing"
    assert read_hanford(fetch_hanford(tmp_path, server.url)).n_cells == 1475


def test_no_network_is_one_sentence_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:
        # bound but not listening: connections to it are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(StagingError, match=r"no connection.*--data DIR") as caught:
            fetch_hanford(tmp_path, url)
    assert url in str(caught.value)
    assert list(tmp_path.iterdir()) == []
