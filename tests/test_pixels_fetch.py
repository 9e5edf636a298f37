"""Pictures from the web, with a server on the loopback interface."""

from __future__ import annotations

import contextlib
import http.server
import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qsit_metric.errors import ImageError
from qsit_metric.pixels import Picture, fetch, load

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)


def encoded(image: Image.Image = RGB, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def numbers(picture: Picture) -> np.ndarray:
    """The picture as bytes (H, W, 3), whichever way it came out."""
    if isinstance(picture.pixels, Image.Image):
        assert picture.pixels.mode == "RGB"
        return np.asarray(picture.pixels)
    return picture.pixels.detach().round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


PNG = encoded()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class _Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stop = threading.Event()

    def log_message(self, *args):
        pass

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), "Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.close_connection = True
        name = self.path.partition("?")[0].strip("/")
        getattr(self, name, self.missing)()

    def missing(self):
        self.answer(404, b"<html>no</html>")

    def picture(self):
        self.answer(body=PNG)

    def chunked(self):
        self.answer(Content_Length=None, Transfer_Encoding="chunked")
        for part in (PNG[:100], PNG[100:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def endless(self):
        self.answer(Content_Length=None)
        while not self.stop.is_set():
            self.wfile.write(b"x" * 4096)

    def announced(self):
        self.answer(Content_Length=str(10**10))

    def agent(self):
        self.answer(body=PNG if self.headers["User-Agent"].startswith("qsit-metric/") else b"no")

    def cut(self):
        self.answer(Content_Length=str(len(PNG) + 50))
        self.wfile.write(PNG)

    def page(self):
        self.answer(body=b"<!doctype html><html><img src='picture'></html>")

    def silent(self):
        self.stop.wait(3)

    def dripping(self):
        self.answer(Content_Length=str(len(PNG)))
        self.drip(PNG)

    def dripping_header(self):
        self.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 500)

    def drip(self, data):
        for byte in data:
            if self.stop.wait(0.02):
                break
            self.wfile.write(bytes([byte]))

    def moved(self):
        self.answer(302, Location="/picture")

    def moved_to_file(self):
        self.answer(302, Location="file:///etc/passwd")

    def moved_to_ftp(self):
        self.answer(301, Location="ftp://127.0.0.1/a.png")

    def moved_to_itself(self):
        self.answer(307, Location="/moved_to_itself")

    def moved_nowhere(self):
        self.answer(308)

    def moved_with_endless_body(self):
        self.answer(302, Location="/picture", Content_Length=None)
        with contextlib.suppress(OSError):
            while not self.stop.is_set():
                self.wfile.write(b"x" * 4096)


@pytest.fixture(scope="module")
def site():
    server = _Server(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Pages.stop.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("page", ["picture", "chunked", "agent", "moved", "moved_with_endless_body", "picture?a=ä b#c"])
def test_a_picture_from_the_web(site, page):
    picture = load(f"{site}/{page}")
    assert picture.source == f"{site}/{page}"
    np.testing.assert_array_equal(numbers(picture), NOISE)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("nothing", r"expected an address that delivers a picture\. The server answers 404 Not Found"),
        ("page", r"expected a picture format that Pillow reads\. It is a web page"),
        ("announced", r"expected at most 64 MiB\. Download it yourself"),
        ("cut", r"expected \d+ bytes\. The connection ended after \d+: try again"),
        ("moved_to_file", r"expected an http or https address\. The server redirects to 'file:///etc/passwd'"),
        ("moved_to_ftp", r"expected an http or https address\. The server redirects to 'ftp://127\.0\.0\.1/a\.png'"),
        ("moved_to_itself", r"expected at most 10 redirects"),
        ("moved_nowhere", r"expected at most 10 redirects"),
    ],
)
def test_what_goes_wrong_on_the_web(site, page, says):
    with pytest.raises(ImageError, match=f"`image`: got '{site}/{page}', {says}"):
        load(f"{site}/{page}")


def test_a_body_without_a_length_is_cut_off_at_the_limit(site, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 2**20)
    with pytest.raises(ImageError, match=r"expected at most 1 MiB\. Download it yourself"):
        load(f"{site}/endless")
    with pytest.raises(ImageError, match=r"expected at most 0\.\d+ MiB"):
        fetch.download(f"{site}/chunked", max_bytes=len(PNG) - 1)
    assert len(fetch.download(f"{site}/chunked", max_bytes=len(PNG)).read()) == len(PNG)


@pytest.mark.parametrize("page", ["silent", "dripping", "dripping_header"])
def test_the_clock_counts_everything_together(site, page, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
    start = time.monotonic()
    with pytest.raises(ImageError, match=f"'{site}/{page}', expected an answer within 0.3 seconds. Try again"):
        load(f"{site}/{page}")
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("page", ["silent", "dripping", "endless"])
def test_nobody_goes_on_downloading_behind_the_back(site, page, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    monkeypatch.setattr(fetch, "MAX_BYTES", 2**40)
    before = set(threading.enumerate())
    with pytest.raises(ImageError, match=r"expected an answer within 0\.2 seconds"):
        load(f"{site}/{page}")
    for thread in set(threading.enumerate()) - before:
        if thread.name == "qsit-metric-download":
            thread.join(2)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/a.png", r"expected an address that answers\. The connection failed: .*refused"),
        ("https://", r"expected an address that answers\. The connection failed"),
        ("http://[::1/a.png", r"expected an address that answers\. The connection failed"),
        ("http://" + "x" * 70 + "/a.png", r"expected an address that answers\. The connection failed"),
        ("HTTP://127.0.0.1:notaport/", r"expected an address that answers\. The connection failed"),
    ],
)
def test_addresses_that_lead_nowhere(url, says):
    with pytest.raises(ImageError, match=says):
        load(url)


class _Address:
    def __fspath__(self):
        return "http://127.0.0.1/a.png"


@pytest.mark.parametrize("path", [Path("http://127.0.0.1/a.png"), _Address()], ids=["Path", "PathLike"])
def test_a_path_object_is_never_an_address(path):
    with pytest.raises(ImageError, match="expected an existing file"):
        load(path)
