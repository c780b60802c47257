"""Which requests reached an application, and how it answered them: told by a wrapper around it, in a file.

A file, since the application may live in another process.
"""

import json
import os
import time
from collections import Counter


class Arrivals:
    """The wrapper's side."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, *what):
        os.write(self._file, json.dumps(what).encode() + b"\n")

    def _note_end(self, method, status, error=None):
        """Where a framework cannot even make its own object of a request, nothing of the application is reached."""
        unmade = isinstance(error, Exception) and not status
        self.note("unmade" if unmade else "out", method, *status)

    def asgi(self, app):
        async def wrapped(scope, receive, send):
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status = []

            async def sending(message):
                status.extend([message["status"]] if message["type"] == "http.response.start" else [])
                await send(message)

            self.note("in")
            try:
                await app(scope, receive, sending)
            except BaseException as error:
                self._note_end(scope["method"], status[:1], error)
                raise
            self._note_end(scope["method"], status[:1])

        return wrapped

    def wsgi(self, app):
        def wrapped(environ, start_response):
            status = []

            def starting(line, headers, *error):
                status[:] = [int(line[:3])]
                return start_response(line, headers, *error)

            self.note("in")
            try:
                return _Body(app(environ, starting), lambda: self.note("out", environ["REQUEST_METHOD"], *status))
            except BaseException as error:
                self._note_end(environ["REQUEST_METHOD"], status, error)
                raise

        return wrapped


class _Body:
    def __init__(self, parts, on_close):
        self._parts, self._iterator, self._on_close = parts, iter(parts), on_close

    def __iter__(self):
        return self._iterator

    def close(self):
        try:
            getattr(self._parts, "close", lambda: None)()
        finally:
            self._on_close()


class Arrived:
    """The test's side: what has come since it last looked."""

    def __init__(self, path):
        self._path, self._seen = path, 0

    def since(self, seconds=10):
        """The method and status of each request, once none of them is being handled any more."""
        until = time.monotonic() + seconds
        while True:
            with self._path.open("rb") as file:
                file.seek(self._seen)
                lines = [json.loads(line) for line in file]
                end = file.tell()
            kinds = Counter(kind for kind, *_ in lines)
            if 2 * kinds["in"] == len(lines) or time.monotonic() > until:
                self._seen = end
                return [rest for kind, *rest in lines if kind == "out"]
            time.sleep(0.002)
