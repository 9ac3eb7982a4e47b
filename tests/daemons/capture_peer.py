"""Both ends of the connections in test_capture.py: who accepted a connection, and where it was going.

listen PORT...                     accepts on all addresses, answers each connection with one JSON line, runs until its input ends
call ADDRESS PORT [MARK [SOURCE]]  connects, prints the line it is answered with; the source may be a foreign address
astray SOURCE ADDRESS PORT         sends a packet that no connection begins or ends with, prints whether it is answered with a reset
forward PORT MARK                  as a proxy with TPROXY: accepts what was meant for others, calls those in the caller's name, and adds
                                   to the line that it was here"""
import json
import selectors
import socket
import struct
import sys
import threading

SO_MARK = 36
TPROXY_MARK = 1337
TRANSPARENT = {socket.AF_INET: (socket.SOL_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
SO_ORIGINAL_DST = 80  # netfilter's, the same number at both levels


def original(s):
    """Where the connection was going before it was redirected."""
    if s.family == socket.AF_INET:
        raw = s.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    raw = s.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]


def answer(listener):
    s, peer = listener.accept()
    with s:
        try:
            address, port = original(s)
        except OSError:  # not tracked: nothing was changed
            address, port = s.getsockname()[:2]
        text = json.dumps({"port": s.getsockname()[1], "address": address, "original": port, "peer": peer[0]})
        s.sendall(text.encode())


def listen(ports):
    selector = selectors.DefaultSelector()
    for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
        for port in ports:
            s = socket.create_server((address, port), family=family)
            selector.register(s, selectors.EVENT_READ, answer)
    selector.register(sys.stdin, selectors.EVENT_READ, lambda _: sys.exit(0))
    print("listening", flush=True)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj)


def pass_on(s, peer, port, mark):
    with s, socket.socket(s.family) as out:
        out.settimeout(5)
        out.setsockopt(*TRANSPARENT[s.family], 1)
        out.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        try:
            out.bind(peer[:2])  # the worst that may happen: the very port of the client
        except OSError:
            out.bind((peer[0], 0))  # a client in this namespace
        try:
            out.connect(original(s))
            line = json.loads(out.makefile().readline())
        except (OSError, ValueError) as problem:
            line = {"port": 0, "address": repr(problem), "original": 0, "peer": ""}
        s.sendall(json.dumps({**line, "via": port, "caller": peer[0]}).encode())


def accept_all(listener, port, mark):
    while True:
        s, peer = listener.accept()
        threading.Thread(target=pass_on, args=(s, peer, port, mark), daemon=True).start()


def forward(port, mark):
    for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(*TRANSPARENT[family], 1)
        s.bind((address, port))
        s.listen(100)
        threading.Thread(target=accept_all, args=(s, port, mark), daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()


def astray(source, address, port):
    """FIN alone: connection tracking calls it invalid, and a port where nobody listens resets it. IPv4."""
    fin, rst, own = 0x01, 0x04, 40001
    addresses = socket.inet_aton(source) + socket.inet_aton(address)

    def segment(checksum):
        return struct.pack("!HHIIBBHHH", own, int(port), 1, 0, 5 << 4, fin, 1024, checksum, 0)
    words = struct.unpack("!16H", addresses + struct.pack("!HH", socket.IPPROTO_TCP, 20) + segment(0))
    total = sum(words)
    total = (total & 0xffff) + (total >> 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as s:
        s.settimeout(1)
        s.bind((source, 0))
        s.sendto(segment(~((total & 0xffff) + (total >> 16)) & 0xffff), (address, 0))
        try:
            while True:
                packet = s.recv(2048)
                tcp = packet[(packet[0] & 15) * 4:]
                if struct.unpack("!HH", tcp[:4]) == (int(port), own):
                    print("reset" if tcp[13] & rst else "answered")
                    return
        except TimeoutError:
            print("silence")


def call(address, port, mark=0, source=None):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
        s.settimeout(5)
        if int(mark):
            s.setsockopt(socket.SOL_SOCKET, SO_MARK, int(mark))
        if source:
            if int(mark) == TPROXY_MARK:
                s.setsockopt(*TRANSPARENT[s.family], 1)
            s.bind((source, 0))
        s.connect((address, int(port)))
        print(s.makefile().read())


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen([int(port) for port in sys.argv[2:]])
    elif sys.argv[1] == "astray":
        astray(*sys.argv[2:])
    elif sys.argv[1] == "forward":
        forward(int(sys.argv[2]), int(sys.argv[3]))
    else:
        call(*sys.argv[2:])
