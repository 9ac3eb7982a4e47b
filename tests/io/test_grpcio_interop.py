"""Our gRPC server and client against grpcio: another implementation's idea of the protocol."""
import os
import subprocess
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest


def find_echo():
    given = os.environ.get("FAIRLEAD_GRPC_ECHO")
    if given:
        return given
    if "FAIRLEAD_BUILD" in os.environ:
        return os.path.join(os.environ["FAIRLEAD_BUILD"], "tests", "io", "grpc_echo")
    root = Path(__file__).resolve().parents[2]
    found = sorted(root.glob("build*/**/tests/io/grpc_echo"), key=lambda p: p.stat().st_mtime)
    if not found:
        pytest.fail("grpc_echo is not built (ninja tests/io/grpc_echo) and FAIRLEAD_GRPC_ECHO is not set")
    return str(found[-1])


ECHO = find_echo()
BIG = [("grpc.max_receive_message_length", 1 << 28), ("grpc.max_send_message_length", 1 << 28)]


def start_server(address, *args, env=None):
    log = tempfile.TemporaryFile("w+")  # not a pipe: it would fill up and stop the server
    p = subprocess.Popen([ECHO, "server", address, *map(str, args)], stdout=subprocess.PIPE, stderr=log, text=True,
                         env={**os.environ, **(env or {})})
    p.log = log
    port = p.stdout.readline().split()
    assert port and port[0] == "port", errors_of(p)
    return p, port[1]


def errors_of(p):
    p.log.seek(0)
    return p.log.read()


def stop_server(p):
    p.terminate()
    p.wait(10)
    p.stdout.close()
    assert p.returncode == 0, errors_of(p)


@pytest.fixture
def server():
    p, port = start_server("127.0.0.1:0")
    yield port
    stop_server(p)


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server}", options=BIG) as c:
        yield c


def test_unary(channel):
    assert channel.unary_unary("/test.Echo/Unary")(b"hello", timeout=5) == b"hello"
    assert channel.unary_unary("/test.Echo/Unary")(b"", timeout=5) == b""


def test_big_message_both_ways(channel):
    data = os.urandom(20_000_000)
    assert channel.unary_unary("/test.Echo/Unary")(data, timeout=30) == data


def test_bidirectional_stream_in_lockstep(channel):
    gate = threading.Semaphore(0)

    def requests():
        for i in range(50):
            yield b"m%d" % i
            gate.acquire()

    got = []
    for m in channel.stream_stream("/test.Echo/Stream")(requests(), timeout=10):
        got.append(m)
        gate.release()
    assert got == [b"m%d" % i for i in range(50)]


def test_client_stream_through_flow_control(channel):
    answer = channel.stream_unary("/test.Echo/Swallow")((b"z" * 1_000_000 for _ in range(40)), timeout=30)
    assert answer == b"40000000"


def test_server_stream_with_slow_reader(channel):
    n = 0
    for m in channel.unary_stream("/test.Echo/Many")(b"300 100000", timeout=30):
        assert len(m) == 100000
        n += 1
        if n < 20:
            time.sleep(0.01)  # slower than the server: its queue and the windows fill up
    assert n == 300


def test_status_and_percent_encoded_message(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Fail")(b"x", timeout=5)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert e.value.details() == '50% is not "ümlaut"\n'


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Nope")(b"x", timeout=5)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "/test.Echo/Nope" in e.value.details()


def test_metadata(channel):
    assert channel.unary_unary("/test.Echo/Metadata")(b"x", timeout=5, metadata=[("x-test", "a b")]) == b"a b"


def test_deadline(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Wait")(b"x", timeout=0.2)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancel_reaches_the_server():
    p, port = start_server("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as c:
        call = c.stream_stream("/test.Echo/Stream")(iter([b"a"]), timeout=10)
        assert next(call) == b"a"
        wait = c.unary_unary("/test.Echo/Wait").future(b"x")
        assert c.unary_unary("/test.Echo/Unary")(b"y", timeout=5) == b"y"
        wait.cancel()
        assert c.unary_unary("/test.Echo/Unary")(b"z", timeout=5) == b"z"
    stop_server(p)
    assert "call ended: CANCELLED" in errors_of(p)


def test_compressed_messages_are_refused(server):
    with grpc.insecure_channel(f"127.0.0.1:{server}", compression=grpc.Compression.Gzip) as c:
        with pytest.raises(grpc.RpcError) as e:
            c.unary_unary("/test.Echo/Unary")(b"x" * 10000, timeout=5)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_unix_socket(tmp_path):
    p, _ = start_server(f"unix:{tmp_path}/s.sock")
    with grpc.insecure_channel(f"unix:{tmp_path}/s.sock") as c:
        assert c.unary_unary("/test.Echo/Unary")(b"u", timeout=5) == b"u"
    stop_server(p)
    assert not (tmp_path / "s.sock").exists()


def test_max_age_moves_the_client_without_failures():
    p, port = start_server("127.0.0.1:0", 200, 2000)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as c:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert c.unary_unary("/test.Echo/Unary")(b"a", timeout=5, wait_for_ready=True) == b"a"
    stop_server(p)


def test_drain_ends_open_streams():
    p, port = start_server("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as c:
        gate = threading.Event()

        def requests():
            yield b"one"
            gate.wait(10)

        call = c.stream_stream("/test.Echo/Stream")(requests())
        assert next(call) == b"one"
        p.terminate()
        with pytest.raises(grpc.RpcError) as e:
            next(call)
        assert e.value.code() == grpc.StatusCode.UNAVAILABLE
        gate.set()
    p.wait(10)
    assert p.returncode == 0, errors_of(p)


# ---- our client, grpcio's server


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        def stream(requests, context):
            yield from requests

        def fail(request, context):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "50% is not ümlaut")

        name = details.method.rsplit("/", 1)[1]
        if name == "Stream":
            return grpc.stream_stream_rpc_method_handler(stream)
        if name == "Fail":
            return grpc.unary_unary_rpc_method_handler(fail)
        return None


@pytest.fixture
def grpcio_server(tmp_path):
    s = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Echo()], options=BIG)
    port = s.add_insecure_port("127.0.0.1:0")
    s.add_insecure_port(f"unix:{tmp_path}/g.sock")
    s.start()
    yield f"127.0.0.1:{port}", f"unix:{tmp_path}/g.sock"
    s.stop(0).wait()


def client(*args, env=None):
    r = subprocess.run([ECHO, "client", *map(str, args)], capture_output=True, text=True, timeout=30,
                       env={**os.environ, **(env or {})})
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def test_client_streams_with_grpcio_server(grpcio_server):
    for target in grpcio_server:
        assert client(target, "Stream", 5, 1000) == "5 messages 5000 bytes status 0"
        assert client(target, "Stream", 3, 20_000_000) == "3 messages 60000000 bytes status 0"


def test_client_by_host_name(grpcio_server):
    port = grpcio_server[0].rsplit(":", 1)[1]
    assert client(f"localhost:{port}", "Stream", 1, 10) == "1 messages 10 bytes status 0"


def test_client_statuses_with_grpcio_server(grpcio_server):
    assert client(grpcio_server[0], "Fail", 1, 1) == "0 messages 0 bytes status 9 50% is not ümlaut"
    assert client(grpcio_server[0], "Nope", 1, 1).startswith("0 messages 0 bytes status 12")


# ---- TLS, with certificates made by openssl


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    d = tmp_path_factory.mktemp("pki")

    def run(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    for ca in ("ca", "other"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{ca}.key",
            "-out", f"{ca}.pem", "-days", "2", "-subj", f"/CN={ca}")
    for name, san in (("server", "DNS:localhost,IP:127.0.0.1"), ("wrong", "DNS:elsewhere")):
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out",
            f"{name}.csr", "-subj", f"/CN={name}", "-addext", f"subjectAltName={san}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1",
            "-copy_extensions", "copy", "-out", f"{name}.pem")
    return d


def tls_env(d, name, ca="ca"):
    return {"FL_TLS_CERT": f"{d}/{name}.pem", "FL_TLS_KEY": f"{d}/{name}.key", "FL_TLS_ROOTS": f"{d}/{ca}.pem"}


def test_tls_server_with_grpcio_client(pki):
    p, port = start_server("127.0.0.1:0", env=tls_env(pki, "server"))
    read = lambda n: (pki / n).read_bytes()
    for creds in (grpc.ssl_channel_credentials(read("ca.pem")),
                  grpc.ssl_channel_credentials(read("ca.pem"), read("server.key"), read("server.pem"))):
        with grpc.secure_channel(f"localhost:{port}", creds, options=BIG) as c:
            data = os.urandom(5_000_000)
            assert c.unary_unary("/test.Echo/Unary")(data, timeout=20) == data
    stop_server(p)


def test_tls_client_with_grpcio_server(pki):
    read = lambda n: (pki / n).read_bytes()
    s = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()], options=BIG)
    port = s.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))]))
    s.start()
    assert client(f"127.0.0.1:{port}", "Stream", 2, 3_000_000, env=tls_env(pki, "server")) == "2 messages 6000000 bytes status 0"
    s.stop(0).wait()


@pytest.mark.parametrize("name,ca,why", [("wrong", "ca", "none of which is localhost"), ("server", "other", "does not verify")])
def test_tls_client_refuses(pki, name, ca, why):
    p, port = start_server("127.0.0.1:0", env=tls_env(pki, name))
    got = client("--fail-fast", f"127.0.0.1:{port}", "Stream", 1, 1, env=tls_env(pki, "server", ca))
    assert got.startswith("0 messages 0 bytes status 14") and why in got and port in got
    stop_server(p)


def test_tls_server_refuses_foreign_client(pki):
    p, port = start_server("127.0.0.1:0", env=tls_env(pki, "server", "other"))
    got = client("--fail-fast", f"127.0.0.1:{port}", "Stream", 1, 1, env=tls_env(pki, "server"))
    assert got.startswith("0 messages 0 bytes status 14")
    stop_server(p)
    assert "does not verify" in errors_of(p)
