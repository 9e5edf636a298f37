"""A small Hub on 127.0.0.1: the real protocol as `huggingface_hub` speaks it, with faults that can be switched on.

    with HubServer() as hub:
        sha = hub.publish("owner/repo", "some/folder")
        hub.faults.cut["model.safetensors"] = 1000     # the next transfer of it breaks off after 1000 bytes
        ...                                            # a client with HF_ENDPOINT=hub.url
        assert hub.paths("GET") == [...]

Models, datasets and spaces are served. Files named `*.safetensors` or larger than `lfs_from` are "large files": as on
the real Hub they have a sha256, and their address redirects to a second server (another origin, where the client must
not send its token). Only the standard library is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_INFO = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0


@dataclass
class Faults:
    """Everything that can go wrong; all off.

    File names are the keys of the first four: how many bytes are sent before the connection is cut (`cut`: once, then
    the entry is gone); how many are withheld from the end of a body that claims to be whole; and bytes put in place of
    the file's own first ones.
    """

    cut: dict[str, int] = field(default_factory=dict)
    always_cut: dict[str, int] = field(default_factory=dict)
    stuck: dict[str, int] = field(default_factory=dict)  # nothing behind so many bytes of the file is ever sent
    short: dict[str, int] = field(default_factory=dict)
    altered: dict[str, bytes] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # listed, but answered with 404
    mislisted: dict[str, int] = field(default_factory=dict)  # the listing gives this size
    status: int = 0  # every API call and file answers this
    page: str = ""  # every call answers 200 with this HTML page (a login page, a proxy)
    token: str = ""  # 401 without this token
    gated: bool = False  # the listing is public, the files are not
    refused: bool = False  # 403 without further explanation
    silence: float = 0.0  # seconds before an API call is answered
    bare: bool = False  # a mirror that lists names without sizes and hashes


class HubServer:
    """Repositories of folders, served as a Hub does."""

    def __init__(self, *, lfs_from: int = 1 << 20) -> None:
        self.faults = Faults()
        self.requests: list[Request] = []
        self.lfs_from = lfs_from
        self._commits: dict[str, dict[str, Path]] = {}  # repository -> commit -> folder
        self._refs: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(large)) for large in (False, True)]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in self._servers
        ]

    def __enter__(self) -> HubServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go away: from now on the address refuses connections."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return self._address(0)

    @property
    def large_url(self) -> str:
        return self._address(1)

    def publish(self, repo: str, folder: str | Path, *, branch: str = "main", kind: str = "models") -> str:
        """Make the folder as it is now a commit of a repository, and let a branch point at it."""
        folder = Path(folder)
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        text = "\n".join([f"{kind}/{repo}", *(f"{name} {_sha256(folder / name)}" for name in names)])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self._commits.setdefault(f"{kind}/{repo}", {})[sha] = folder
        self._refs.setdefault(f"{kind}/{repo}", {})[branch] = sha
        return sha

    def paths(self, method: str = "", *, part: str = "") -> list[str]:
        """The paths asked for since the last `forget`, in order."""
        return [r.path for r in self.requests if method in ("", r.method) and part in r.path]

    def forget(self) -> None:
        self.requests.clear()

    def _address(self, number: int) -> str:
        return f"http://127.0.0.1:{self._servers[number].server_address[1]}"

    def _handler(self, large: bool) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            server_hub = hub
            is_large = large

        return Handler

    def locate(self, kind: str, repo: str, revision: str) -> tuple[str, Path] | str:
        """Find a commit: (sha, folder), or the Hub's code for what is not there."""
        commits = self._commits.get(f"{kind}/{repo}")
        if commits is None:
            return "RepoNotFound"
        sha = self._refs[f"{kind}/{repo}"].get(unquote(revision), unquote(revision))
        return (sha, commits[sha]) if sha in commits else "RevisionNotFound"

    def is_lfs(self, path: Path) -> bool:
        return path.suffix == ".safetensors" or path.stat().st_size >= self.lfs_from


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer
    is_large: bool

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        """Stay silent; the requests are recorded."""

    def _answer(self) -> None:
        bearer = self.headers.get("Authorization", "")
        self.seen = Request(self.command, self.path, self.headers.get("Range"), bearer.removeprefix("Bearer ") or None)
        self.server_hub.requests.append(self.seen)
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        faults = self.server_hub.faults
        if faults.silence and not self.is_large:
            time.sleep(faults.silence)
        if faults.page:
            self._send(200, faults.page.encode(), {"Content-Type": "text/html"})
        elif faults.status:
            self._refuse(faults.status)
        elif self.is_large:
            self._large(path)
        elif faults.token and self.seen.token != faults.token:
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif faults.refused:
            self._refuse(403, message="the organisation does not allow this token")
        elif found := _INFO.fullmatch(path):
            self._info(*found.groups(), blobs="blobs" in query)
        elif found := _FILE.fullmatch(path):
            self._file(*found.groups())
        else:
            self._refuse(404)

    def _info(
        self, kind: str, repo: str, what: str | None, revision: str | None, below: str | None, *, blobs: bool
    ) -> None:
        place = self.server_hub.locate(kind, repo, revision or "main")
        if isinstance(place, str):
            self._refuse(404, place)
            return
        sha, folder = place
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if what == "tree":
            body: object = [_tree_entry(self.server_hub, folder, path) for path in paths if (below or "") in str(path)]
        else:
            blobs = blobs and not self.server_hub.faults.bare
            siblings = [_sibling(self.server_hub, folder, path, blobs) for path in paths]
            body = {"_id": "0", "id": repo, "modelId": repo, "sha": sha, "private": False, "siblings": siblings}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, kind: str | None, repo: str, revision: str, name: str) -> None:
        hub = self.server_hub
        place = hub.locate(kind or "models", repo, revision)
        if isinstance(place, str):
            self._refuse(404, place)
            return
        sha, folder = place
        path = folder / unquote(name)
        headers = {"X-Repo-Commit": sha}
        if hub.faults.gated:
            self._refuse(403 if self.seen.token else 401, "GatedRepo", "Access to this model is restricted")
        elif not path.is_file() or name in hub.faults.lost:
            self._refuse(404, "EntryNotFound", **headers)
        elif hub.is_lfs(path):
            headers |= {"X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": f'"{_sha256(path)}"'}
            headers |= {"Location": f"{hub.large_url}{self.path}?signature=s3cret"}
            self._send(302, b"", headers)
        else:
            self._body(path, headers | {"ETag": f'"{_blob_id(path.read_bytes())}"'})

    def _large(self, path: str) -> None:
        kind, repo, revision, name = _FILE.fullmatch(path).groups()
        _, folder = self.server_hub.locate(kind or "models", repo, revision)
        self._body(folder / unquote(name), {"ETag": f'"{_sha256(folder / unquote(name))}"'})

    def _body(self, path: Path, headers: dict[str, str]) -> None:
        faults, name = self.server_hub.faults, path.name
        data = path.read_bytes()
        if self.command == "GET":
            data = faults.altered.get(name, b"") + data[len(faults.altered.get(name, b"")) :]
            data = data[: len(data) - faults.short.get(name, 0)]
        status, start = 200, 0
        if self.seen.range and (found := re.fullmatch(r"bytes=(\d+)-", self.seen.range)):
            status, start = 206, int(found.group(1))
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if start > len(data):
            self._refuse(416)
            return
        cut = None
        if self.command == "GET":
            cut = faults.always_cut.get(name, faults.cut.pop(name, None))
            cut = max(0, faults.stuck[name] - start) if name in faults.stuck else cut
        self._send(status, data[start:], headers | {"Accept-Ranges": "bytes"}, cut=cut)

    def _refuse(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if code:
            headers["X-Error-Code"] = code
        if message:
            headers["X-Error-Message"] = message
        self._send(status, json.dumps({"error": message or "no"}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.seen.status = status
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        if cut is not None:
            self.close_connection = True
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])


def _sibling(hub: HubServer, folder: Path, path: Path, blobs: bool) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": path.relative_to(folder).as_posix()}
    if blobs:
        size = hub.faults.mislisted.get(path.name, path.stat().st_size)
        entry |= {"size": size, "blobId": _git_id(hub, path)}
        if hub.is_lfs(path):
            entry |= {"lfs": {"sha256": _sha256(path), "size": path.stat().st_size, "pointerSize": len(_pointer(path))}}
    return entry


def _tree_entry(hub: HubServer, folder: Path, path: Path) -> dict[str, object]:
    size = path.stat().st_size
    entry: dict[str, object] = {"type": "file", "path": path.relative_to(folder).as_posix()}
    entry |= {"oid": _git_id(hub, path), "size": size}
    if hub.is_lfs(path):
        entry |= {"lfs": {"oid": _sha256(path), "size": size, "pointerSize": len(_pointer(path))}}
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _pointer(path: Path) -> bytes:
    """What git itself stores of a large file."""
    oid, size = _sha256(path), path.stat().st_size
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def _git_id(hub: HubServer, path: Path) -> str:
    return _blob_id(_pointer(path) if hub.is_lfs(path) else path.read_bytes())


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
