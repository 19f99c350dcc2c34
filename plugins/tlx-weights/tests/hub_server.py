"""A server on this machine that answers like the Hugging Face hub, for a few files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`repos`: owner/name -> file -> bytes, at `main` and at COMMIT; `gated`: those it refuses.
    `asked` lists what it was asked for."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes]], gated: tuple[str, ...] = ()):
        self.repos, self.gated, self.asked = repos, gated, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                status, headers, body = hub.reply(self.path)
                hub.asked.append((self.command, self.path))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(body)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def reply(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo in self.gated:
            return (
                403,
                {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."},
                b"",
            )
        if repo not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        about = {"X-Repo-Commit": COMMIT}
        if name not in self.repos[repo]:
            return 404, {**about, "X-Error-Code": "EntryNotFound"}, b""
        body = self.repos[repo][name]
        return 200, {**about, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body

    def stop(self) -> None:
        """No further answers; connections are refused."""
        self.server.shutdown()
        self.server.server_close()
