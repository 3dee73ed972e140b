"""A real S3 server on loopback in a process of its own, which keeps a log and can be told to fail.

``python -m tests.s3_server`` prints its port. ``/~faults`` takes what is to fail as JSON, by the path of an object:
``{"/bucket/key": {"GET": [403, 0]}}`` answers with the statuses in turn, 0 standing for a connection that ends in the
middle, -1 for one that is never answered. ``/~log`` gives the requests so far and forgets them; ``/~await`` answers
when its body, such a line, is among them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Environ = dict[str, Any]
Start = Callable[..., Any]

_PATIENCE_S = 55.0


class Server:
    """The WSGI application around moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._log: list[str] = []
        self._logged = threading.Condition()
        self._faults: dict[str, dict[str, list[int]]] = {}

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"].encode("latin-1").decode(), environ["REQUEST_METHOD"]
        if path == "/~log":
            start("200 OK", [("Content-Type", "application/json")])
            log, self._log = self._log, []
            return [json.dumps(log).encode()]
        if path in ("/~faults", "/~await"):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            if path == "/~faults":
                self._faults = json.loads(body)
            else:
                with self._logged:
                    self._logged.wait_for(lambda: body.decode() in self._log, _PATIENCE_S)
            start("200 OK", [])
            return [b""]
        with self._logged:
            self._log.append(f"{method} {path}{'?' + environ['QUERY_STRING'] if environ['QUERY_STRING'] else ''}")
            self._logged.notify_all()
        faults = self._faults.get(path, {}).get(method, [])
        if not faults:
            answer: Iterable[bytes] = self._moto(environ, start)
            return answer
        return _failed(faults.pop(0), start)


def _failed(status: int, start: Start) -> Iterable[bytes]:
    if status == -1:
        threading.Event().wait()
    if status == 0:
        start("200 OK", [("Content-Length", "100000"), ("ETag", '"broken"')])
        return [b"%PDF-1.7 and no more"]
    code = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}[status]
    start(f"{status} {quote(code)}", [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, Server(), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
