"""Runs the Bookinfo services on loopback and talks to them, for the tests of this folder.

A service is started with --port 0 and says which port it got; nothing is guessed, and nothing
waits longer than it must.
"""

import http.client
import os
import pathlib
import select
import subprocess
import sys
import time
from html.parser import HTMLParser

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
SOURCE = SAMPLES / "bookinfo" / "src"
START_SECONDS = 20
STOP_SECONDS = 15


class App:
    """One service as a process of its own."""

    def __init__(self, service, *options, pod=None, env=None):
        clean = {name: value for name, value in os.environ.items()
                 if not name.endswith(("_HOSTNAME", "_SERVICE_PORT"))
                 and name not in ("SERVICES_DOMAIN", "SERVICE_VERSION", "STAR_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCE / f"{service}.py"), "--host", "127.0.0.1", "--port", "0",
             *options],
            env={**clean, "POD_NAME": pod or f"{service}-pod", **(env or {})},
            cwd=SOURCE.parent, stdout=subprocess.PIPE, text=True)
        self.port = self._port(service)

    def _port(self, service):
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if " listens on port " not in line:
            self.stop()
            raise AssertionError(f"{service} did not start: {line!r}")
        return int(line.rsplit(" ", 1)[1])

    def stop(self):
        """Ends the service as a pod is ended, and returns its exit code."""
        self.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return code

    def terminate(self):
        if self.process.poll() is None:
            self.process.terminate()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)

    def ask(self, path, method="GET", headers=None, body=None):
        """Returns (status, headers, body) of one request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def page(self, headers=None):
        """The product page's elements that have an id."""
        status, _, body = self.ask("/productpage", headers=headers)
        assert status == 200
        return elements(body.decode())


class _Elements(HTMLParser):
    """Collects, for each id, the attributes and the text below the element."""

    VOID = {"meta", "link", "input", "br", "path", "rect", "circle", "stop"}

    def __init__(self):
        super().__init__()
        self.found = {}
        self.open = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        name = attrs.get("id")
        if name:
            assert name not in self.found, f"id {name} is there twice"
            self.found[name] = {**attrs, "tag": tag, "text": ""}
        if tag not in self.VOID:
            self.open.append((tag, name))

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.found[name]["text"] += data


def elements(html):
    parser = _Elements()
    parser.feed(html)
    parser.close()
    assert not parser.open, f"never closed: {parser.open}"
    return parser.found


def until(condition, what, seconds=10):
    """Waits for a condition that another process makes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")
