"""A relay for Unix sockets that speak ZeroMQ's protocol (ZMTP 3, no security), and that loses whole messages of one direction on request.

A real publisher and a real subscriber talk through it, so what is lost is lost as on a real overloaded PUB socket: silently.
"""
import io
import socket
import threading

GREETING = 64
MORE, LONG, COMMAND = 1, 2, 4


def read_exactly(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def read_frame(stream):
    flags = read_exactly(stream, 1)
    length = read_exactly(stream, 8 if flags[0] & LONG else 1)
    return flags[0], flags + length + read_exactly(stream, int.from_bytes(length, "big"))


class Lossy:
    """Listens at `front` and connects to `back`. `lose(index)` says whether message number `index` towards the client is lost."""

    def __init__(self, front, back, lose):
        self.back, self.lose, self.lost, self.seen = str(back), lose, 0, 0
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(front))
        self.server.listen()
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            up = socket.socket(socket.AF_UNIX)
            try:
                up.connect(self.back)
            except OSError:
                client.close()
                up.close()
                continue
            self.open += [client, up]
            threading.Thread(target=self._copy, args=(client, up), daemon=True).start()
            threading.Thread(target=self._copy_with_loss, args=(up, client), daemon=True).start()

    def _copy(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        self._shut(source, target)

    def _copy_with_loss(self, source, target):
        try:
            with source.makefile("rb", buffering=0) as raw:
                for _ in range(GREETING):  # each side waits for the other's first bytes before it sends the rest
                    target.sendall(read_exactly(raw, 1))
                stream = io.BufferedReader(raw)
                while True:
                    message = []
                    while True:
                        flags, data = read_frame(stream)
                        message.append(data)
                        if not flags & MORE:
                            break
                    if not flags & COMMAND:
                        self.seen += 1
                        if self.lose(self.seen):
                            self.lost += 1
                            continue
                    target.sendall(b"".join(message))
        except (OSError, EOFError, ValueError):
            pass
        self._shut(source, target)

    @staticmethod
    def _shut(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.server.close()
        self._shut(*self.open)
