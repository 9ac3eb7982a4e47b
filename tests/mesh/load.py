"""A load client that forgives nothing: every request is sent once, and everything but the wanted answer is a failure.

Some workers keep their connections, others open one for each request. A connection that the server closed before a request was sent on it is
not an error of the server: HTTP allows that, so the worker looks before it sends. What happens after the first byte was sent counts.
"""
import asyncio
import collections
import threading
import time
from dataclasses import dataclass

LIMIT = 1 << 20


@dataclass
class Sample:
    start: float  # monotonic
    end: float
    status: int
    headers: dict
    error: str  # "": as wanted
    kept: bool  # on a connection that had been used before


class BadAnswer(Exception):
    pass


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    headers = {}
    for line in filter(None, lines[1:]):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
            if len(body) > LIMIT:
                raise BadAnswer("body too long")
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.read(LIMIT)
    return status, headers, body


class Load:
    """`with Load("127.0.0.1:8080", "/productpage", rate=40) as load:` runs in a thread of its own until the end of the block, and until there were
    `enough` requests to mean something."""

    def __init__(self, address, path, rate=40, workers=4, headers=None, wanted=None, timeout=15, enough=20):
        self.host, port = address.rsplit(":", 1)
        self.port, self.path, self.rate, self.workers, self.timeout, self.enough = int(port), path, rate, workers, timeout, enough
        extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        self.request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: load\r\n{extra}".encode()
        self.wanted = wanted or (lambda status, headers, body: "" if status == 200 else f"status {status}")
        self.samples = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.broken = None
        self.thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, problem, *_):
        try:
            if not problem:
                self.more(self.enough - len(self.taken()))
        finally:
            self.stop()

    def stop(self):
        self.stopping.set()
        self.thread.join(self.timeout + 10)
        assert not self.thread.is_alive(), "the load client hangs"
        if self.broken:
            raise self.broken

    def _main(self):
        try:
            asyncio.run(self._all())
        except BaseException as error:  # pylint: disable=broad-except
            self.broken = error

    async def _all(self):
        await asyncio.gather(*(self._worker(i) for i in range(self.workers)))

    async def _worker(self, index):
        keep, pause = index % 2 == 0, self.workers / self.rate
        connection, used = None, 0
        await asyncio.sleep(pause * index / self.workers)
        while not self.stopping.is_set():
            begin = time.monotonic()
            connection, used = await self._once(connection, used, keep)
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - begin)))
        if connection:
            connection[1].close()

    async def _once(self, connection, used, keep):
        start, status, headers, error = time.monotonic(), 0, {}, ""
        if connection and connection[0].at_eof():
            connection[1].close()
            connection = None
        kept = connection is not None
        used = used + 1 if kept else 0
        try:
            async with asyncio.timeout(self.timeout):
                connection = connection or await asyncio.open_connection(self.host, self.port)
                connection[1].write(self.request + (b"\r\n" if keep else b"Connection: close\r\n\r\n"))
                status, headers, body = await read_answer(connection[0])
                error = self.wanted(status, headers, body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError, BadAnswer) as problem:
            error = f"{type(problem).__name__}: {problem} (request {used + 1} of its connection)"
        with self.lock:
            self.samples.append(Sample(start, time.monotonic(), status, headers, error, kept))
        if connection and (error or not keep or headers.get("connection") == "close"):
            connection[1].close()
            connection = None
        return connection, used

    # ---- what was seen

    def taken(self, since=0.0):
        """Samples of requests that began at or after a moment, in the order of their beginning."""
        with self.lock:
            return sorted((s for s in self.samples if s.start >= since), key=lambda s: s.start)

    def more(self, count):
        """Waits until so many further requests have been answered."""
        now = time.monotonic()
        end = now + 60
        while len(self.taken(now)) < count:
            assert time.monotonic() < end and not self.broken, f"{len(self.taken(now))} requests in 60 s; {self.broken}"
            time.sleep(0.02)
        return self

    def failures(self):
        return [s for s in self.taken() if s.error]

    def assert_clean(self):
        """No request failed, and there were enough, of both sorts."""
        samples = self.taken()
        bad = [s for s in samples if s.error]
        kinds = collections.Counter((s.status, s.error) for s in bad)
        first = samples[0].start if samples else 0
        when = [f"+{s.start - first:.2f} s{' kept' if s.kept else ' new'}" for s in bad[:8]]
        details = [s.headers for s in bad[:2]]
        assert not bad, f"{len(bad)} of {len(samples)} requests failed: {dict(kinds)}, at {when}, {details}"
        assert len(samples) >= self.enough, f"only {len(samples)} requests"
        assert any(s.kept for s in samples) and not all(s.kept for s in samples)
        return len(samples)
