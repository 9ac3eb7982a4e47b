"""The program of every pod of the lab. It is an HTTP, TLS and TCP server that says what it received and does what a request tells it, a client
that sends what a test asks for, and a resolver. Tests speak to it past the mesh: a line of JSON each way on the Unix socket ../c/<pod>.

What a request tells the server is in its headers: `x-do: status=503,delay=0.2` to every pod, `x-do-v2: ...` to those of one version only.
`fail=2` fails the first two requests with one `x-key`, `close` ends the connection without an answer, `reply=name:value` adds a header.
"""
import argparse
import asyncio
import collections
import itertools
import json
import os
import socket
import ssl
import struct
import time

KEPT = 50_000
LINE_LIMIT = 1 << 25
PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"


async def read_head(reader):
    """(first line, [(name, value)], what the PROXY protocol said or None)"""
    head, proxied = await reader.readuntil(b"\r\n\r\n"), None
    if head == PROXY_V2[:4]:
        assert await reader.readexactly(8) == PROXY_V2[4:]
        command, family, length = struct.unpack("!BBH", await reader.readexactly(4))
        data = await reader.readexactly(length)
        assert command == 0x21 and family == 0x11, (command, family)
        proxied = f"v2 {socket.inet_ntoa(data[:4])} {socket.inet_ntoa(data[4:8])}"
        head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].startswith("PROXY "):
        proxied = lines.pop(0)
    fields = [line.partition(":") for line in lines[1:] if line]
    return lines[0], [(name.strip().lower(), value.strip()) for name, _, value in fields], proxied


async def read_body(reader, headers, until_end):
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    return await reader.read() if until_end else b""


def tls_of(writer):
    inner = writer.get_extra_info("ssl_object")
    if not inner:
        return None
    certificate = inner.getpeercert() or {}
    names = [value for _, value in certificate.get("subjectAltName", ())]
    return {"sni": getattr(inner, "sni", None), "alpn": inner.selected_alpn_protocol(), "client": names}


def ends_of(writer):
    name, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    return {"port": name[1], "from": peer[0]} if isinstance(name, tuple) else {"port": 0, "from": "unix"}


class Server:
    def __init__(self, version, pod):
        self.version, self.pod = version, pod
        self.seen = collections.deque(maxlen=KEPT)
        self.attempts, self.busy, self.most = collections.Counter(), collections.Counter(), collections.Counter()
        self.numbers = itertools.count(1)
        self.places = {}  # where hosts of CONNECT are

    async def http(self, reader, writer):
        number = next(self.numbers)
        try:
            while await self.one(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer, number):
        first, fields, proxied = await read_head(reader)
        method, path, _ = first.split(" ")
        headers = dict(fields)
        if method == "CONNECT":
            await self.tunnel(path, reader, writer)
            return False
        body = await read_body(reader, headers, False)
        key = headers.get("x-key", "")
        self.attempts[key] += 1
        said = {"version": self.version, "pod": self.pod, "method": method, "path": path, "host": headers.get("host"), "headers": headers,
                "body": body.decode("latin-1"), "connection": number, "attempt": self.attempts[key], "proxied": proxied,
                **ends_of(writer), "tls": tls_of(writer)}
        self.seen.append({"at": time.time(), "key": key, **said})
        orders = dict(part.partition("=")[::2] for name in ("x-do", f"x-do-{self.version}") for part in headers.get(name, "").split(",") if part)
        self.busy[key] += 1
        self.most[key] = max(self.most[key], self.busy[key])
        try:
            await asyncio.sleep(float(orders.get("delay", 0)))
        finally:
            self.busy[key] -= 1
        if "close" in orders:
            return False
        failing = self.attempts[key] <= int(orders.get("fail", 0))
        status = int(orders.get("status", 503 if failing else 200)) if "fail" not in orders or failing else 200
        name, _, value = orders.get("reply", "x-echo:yes").partition(":")
        text = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{name}: {value}\r\nx-version: {self.version}\r\n"
                     f"content-length: {len(text)}\r\n\r\n".encode() + (b"" if method == "HEAD" else text))
        await writer.drain()
        return headers.get("connection") != "close"

    async def tunnel(self, target, reader, writer):
        """A proxy for HTTP CONNECT."""
        self.seen.append({"at": time.time(), "key": "CONNECT", "path": target})
        host, _, port = target.rpartition(":")
        inside, outside = await asyncio.open_connection(self.places.get(host, host), int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source, target):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()
        await asyncio.gather(pump(reader, outside), pump(inside, writer), return_exceptions=True)

    async def tcp(self, reader, writer):
        """Every line is answered by what is known of it."""
        number = next(self.numbers)
        try:
            while line := await reader.readline():
                said = {"version": self.version, "pod": self.pod, "line": line.decode("latin-1").rstrip("\n"), "connection": number,
                        **ends_of(writer), "tls": tls_of(writer)}
                self.seen.append({"at": time.time(), "key": said["line"], **said})
                writer.write(json.dumps(said).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def first(self, _, writer):
        """It speaks before it is spoken to."""
        writer.write(f"{self.version} speaks\n".encode())
        await writer.drain()
        writer.close()

    def taken(self, order):
        """What came with a key since it was last asked for, and how many requests at most at the same time."""
        key = order["key"]
        found = [s for s in self.seen if s["key"] == key]
        if order.get("forget"):
            self.seen = collections.deque((s for s in self.seen if s["key"] != key), maxlen=KEPT)
        return {"requests": found, "most": self.most[key]}


def client_tls(order):
    context = ssl.create_default_context(cafile=order.get("ca"))
    context.check_hostname = not order.get("any_name")
    if order.get("cert"):
        context.load_cert_chain(order["cert"], order["key"])
    if order.get("alpn"):
        context.set_alpn_protocols(order["alpn"])
    return context


async def connect(order):
    more = {}
    if order.get("tls"):
        more = {"ssl": client_tls(order["tls"]), "server_hostname": order["tls"]["name"]}
    if order.get("source"):
        more["local_addr"] = (order["source"], 0)
    return await asyncio.open_connection(order["address"], order["port"], limit=LINE_LIMIT, **more)


class Client:
    """Sends an order's request `count` times from `parallel` workers, each with a connection of its own that it keeps unless told otherwise."""

    def __init__(self, order, exchange):
        self.order, self.exchange = order, exchange
        self.left = order.get("count", 1)
        self.answers = []

    async def run(self):
        await asyncio.gather(*(self.work() for _ in range(min(self.order.get("parallel", 1), self.left))))
        return self.answers

    async def work(self):
        connection = None
        while self.left > 0:
            self.left -= 1
            began, answer = time.monotonic(), {"status": 0, "headers": [], "body": "", "error": ""}
            try:
                async with asyncio.timeout(self.order.get("timeout", 15)):
                    if connection and connection[0].at_eof():
                        connection[1].close()
                        connection = None
                    connection = connection or await connect(self.order)
                    kept = await self.exchange(self.order, *connection, answer)
            except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError) as problem:
                answer["error"] = f"{type(problem).__name__}: {problem}"
                kept = False
            answer["ms"] = (time.monotonic() - began) * 1000
            self.answers.append(answer)
            if connection and not kept:
                connection[1].close()
                connection = None
        if connection:
            connection[1].close()


async def http_exchange(order, reader, writer, answer):
    body = order.get("body", "").encode()
    fields = [("host", order["host"]), *order.get("headers", [])] + ([("content-length", len(body))] if body else [])
    method = order.get("method", "GET")
    writer.write(f"{method} {order.get('path', '/')} HTTP/1.1\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n")
    await asyncio.sleep(order.get("slow", 0))
    writer.write(body)
    line, headers, _ = await read_head(reader)
    answer["status"], answer["headers"] = int(line.split(" ")[1]), headers
    inner = writer.get_extra_info("ssl_object")
    if inner:
        answer["tls"] = {"alpn": inner.selected_alpn_protocol(), "version": inner.version(),
                         "names": [v for _, v in (inner.getpeercert() or {}).get("subjectAltName", ())]}
    plain = dict(headers)
    if method not in ("HEAD", "CONNECT") and answer["status"] not in (204, 304):
        answer["body"] = (await read_body(reader, plain, True)).decode("latin-1")
    return not order.get("close") and plain.get("connection") != "close"


async def line_exchange(order, reader, writer, answer):
    writer.write(order["line"].encode() + b"\n")
    answer["body"] = (await reader.readline()).decode("latin-1")
    if not answer["body"]:
        raise asyncio.IncompleteReadError(b"", None)
    answer["status"] = 200
    await asyncio.sleep(order.get("hold", 0))
    return False


class Resolver(asyncio.DatagramProtocol):
    """A records from a table that tests set; a name that it does not hold does not exist."""

    def __init__(self):
        self.names, self.asked, self.transport = {}, collections.Counter(), None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
        kind, question = struct.unpack("!H", data[at + 1:at + 3])[0], data[12:at + 5]
        name = ".".join(labels).lower()
        self.asked[name] += 1
        addresses = self.names.get(name)
        answers = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(a) for a in addresses or []] if kind == 1 else []
        flags = 0x8580 if addresses is not None else 0x8583
        self.transport.sendto(data[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + question + b"".join(answers), addr)

    def set(self, order):
        self.names.update(order.get("names", {}))
        return dict(self.asked)


class Control:
    def __init__(self, server, resolver):
        self.server, self.resolver = server, resolver

    async def do(self, order):
        match order["do"]:
            case "ask":
                return await Client(order, http_exchange).run()
            case "talk":
                return await Client(order, line_exchange).run()
            case "taken":
                return self.server.taken(order)
            case "places":
                self.server.places.update(order["places"])
                return True
            case "names":
                return self.resolver.set(order)

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                try:
                    reply = await self.do(json.loads(line))
                except Exception as problem:  # pylint: disable=broad-exception-caught
                    reply = {"problem": repr(problem)}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def server_tls(folder):
    """A certificate of a client is looked at when there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
    context.load_verify_locations(f"{folder}/ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])

    def note(inner, name, _):
        inner.sni = name
    context.sni_callback = note
    return context


async def main():
    parser = argparse.ArgumentParser()
    for name in ("http", "https", "tcp", "tls", "first"):
        parser.add_argument(f"--{name}", type=int, nargs="*", default=[])
    parser.add_argument("--version", default="-")
    parser.add_argument("--unix", action="store_true", help="HTTP on certs/POD.sock, too")
    options = parser.parse_args()
    pod = os.environ["POD_NAME"]
    server, resolver = Server(options.version, pod), Resolver()
    for ports, handler, context in ((options.http, server.http, None), (options.https, server.http, server_tls("certs")),
                                    (options.tcp, server.tcp, None), (options.tls, server.tcp, server_tls("certs")), (options.first, server.first, None)):
        for port in ports:
            await asyncio.start_server(handler, None, port, ssl=context, backlog=512)
    if options.unix:
        await asyncio.start_unix_server(server.http, f"certs/{pod}.sock", backlog=512)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: resolver, local_addr=("127.0.0.1", 53))
    os.makedirs("../c", exist_ok=True)
    path = f"../c/{pod}"
    if os.path.exists(path):
        os.unlink(path)
    await asyncio.start_unix_server(Control(server, resolver).serve, path, limit=LINE_LIMIT)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
