"""Fixtures: services that are stopped when the test is over, and a whole Bookinfo."""

import socket
import threading

import pytest
from bookinfo_apps import App


@pytest.fixture
def start():
    """Starts services; all of them are stopped at the end of the test."""
    apps = []

    def run(service, *options, **more):
        apps.append(App(service, *options, **more))
        return apps[-1]

    yield run
    for app in apps:
        app.terminate()
    for app in apps:
        app.stop()


def where(**apps):
    """The environment that tells a service where the others are."""
    env = {}
    for name, port in apps.items():
        env[f"{name.upper()}_HOSTNAME"] = "127.0.0.1"
        env[f"{name.upper()}_SERVICE_PORT"] = str(port)
    return env


class Bookinfo:
    """All four services, with one version of reviews."""

    def __init__(self, start, version):
        self.ratings = start("ratings", pod="ratings-v1")
        self.details = start("details", pod="details-v1")
        self.reviews = start("reviews", "--version", version, pod=f"reviews-{version}",
                             env=where(ratings=self.ratings.port))
        self.productpage = start("productpage", pod="productpage-v1", env=where(
            details=self.details.port, reviews=self.reviews.port, ratings=self.ratings.port))


@pytest.fixture
def bookinfo(start):
    return lambda version: Bookinfo(start, version)


@pytest.fixture
def env_of():
    return where


@pytest.fixture
def canned():
    """Servers that give one fixed answer to one request; returns the port."""
    opened = []

    def serve(status, body):
        server = socket.create_server(("127.0.0.1", 0))

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"
                             % (status, len(body), body))

        opened.append((server, threading.Thread(target=answer, daemon=True)))
        opened[-1][1].start()
        return server.getsockname()[1]

    yield serve
    for server, thread in opened:
        thread.join(10)
        server.close()
