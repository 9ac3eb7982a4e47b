"""The Bookinfo services by themselves: no mesh, no proxy, only loopback."""

import json
import shutil
import socket
import subprocess
import threading
import time

import png
import pytest
from bookinfo_apps import App, until

GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
COLOR_OF = {"v1": "none", "v2": "black", "v3": "red"}
# The colours of the filled stars in the style sheet of the page.
BLACK_STAR, RED_STAR = (0x1f, 0x24, 0x29), (0xd0, 0x30, 0x2f)
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--window-size=1200,1100"]


def ask_json(app, path, **more):
    status, _, body = app.ask(path, **more)
    return status, json.loads(body)


@pytest.mark.parametrize("version", COLOR_OF)
def test_page_says_which_reviews_served_it(bookinfo, version):
    app = bookinfo(version)
    page = app.productpage.page()
    badge = page["reviews-version"]
    assert badge["data-version"] == version
    assert badge["data-pod"] == f"reviews-{version}"
    assert f"served by reviews {version} (pod reviews-{version})" in badge["text"]
    assert page["stars"]["data-color"] == COLOR_OF[version]
    assert {"title", "details", "review-1", "review-2", "login-form"} <= page.keys()
    assert not [name for name in page if name.endswith("-error")]
    _, headers, _ = app.productpage.ask("/productpage")
    assert headers["x-bookinfo-reviews"] == version


def test_hops_have_ratings_only_where_reviews_asks_it(bookinfo):
    assert "hop-ratings" not in bookinfo("v1").productpage.page()
    page = bookinfo("v2").productpage.page()
    assert {"hop-productpage", "hop-details", "hop-reviews", "hop-ratings"} <= page.keys()


def test_hops_name_the_caller_that_the_proxy_has_proven(bookinfo):
    proof = f'By=spiffe://a/b;Hash=00;Subject="CN=x, O=\\"y;URI=z";URI={GATEWAY}'
    page = bookinfo("v3").productpage.page({"x-forwarded-client-cert": proof})
    assert page["hop-productpage"]["data-caller"] == GATEWAY
    assert "mutual TLS" in page["hop-productpage"]["text"]
    # What was proven to productpage says nothing about who calls the next service.
    assert page["hop-reviews"]["data-caller"] == ""
    assert "plaintext" in page["hop-reviews"]["text"]


@pytest.mark.parametrize("value, caller", [
    (f"By=a;URI={GATEWAY}", GATEWAY),
    (f"URI=spiffe://first/hop,By=a;Hash=b;URI={GATEWAY}", GATEWAY),
    (f'By=a;Subject="URI=no,URI=no";URI="{GATEWAY}"', GATEWAY),
    (f"URI={GATEWAY},By=a;Hash=b", None),
    ("By=a;Hash=b", None),
    ("", None),
])
def test_peer_reads_the_last_element(start, value, caller):
    status, peer = ask_json(start("details"), "/peer", headers={"X-Forwarded-Client-Cert": value})
    assert status == 200
    assert peer["caller"] == caller
    assert peer["headers"]["x-forwarded-client-cert"] == value
    assert (peer["service"], peer["podname"]) == ("details", "details-pod")


def test_page_keeps_the_reviews_when_ratings_is_down(bookinfo):
    app = bookinfo("v2")
    assert app.productpage.page()["stars"]["data-color"] == "black"
    assert app.ratings.stop() == 0
    page = app.productpage.page()
    assert "ratings are currently unavailable" in page["ratings-error"]["text"]
    assert page["stars"]["data-color"] == "none"
    assert page["reviews-version"]["data-version"] == "v2"
    _, reviews = ask_json(app.productpage, "/api/v1/products/0/reviews")
    assert all("error" in review["rating"] for review in reviews["reviews"])


@pytest.mark.parametrize("service", ["details", "reviews"])
def test_page_says_which_backend_is_down(bookinfo, service):
    app = bookinfo("v1")
    other = {"details": "reviews", "reviews": "details"}[service]
    assert getattr(app, service).stop() == 0
    page = app.productpage.page()
    assert (f"Sorry, product {service} are currently unavailable"
            in page[f"{service}-error"]["text"])
    assert f"{other}-error" not in page and other in page
    status, answer = ask_json(app.productpage, f"/api/v1/products/0/{service}")
    assert status == 503 and "unavailable" in answer["error"]


def test_a_backend_that_is_silent_is_given_up(start, env_of):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ratings = silent.getsockname()[1]
        reviews = start("reviews", "--version", "v3", "--timeout-ms", "200",
                        env=env_of(ratings=ratings))
        status, answer = ask_json(reviews, "/reviews/0")
    assert status == 200
    assert all("error" in review["rating"] for review in answer["reviews"])


@pytest.mark.parametrize("status, body, seen", [
    (b"418 teapot", b"{}", 418),
    (b"200 OK", b"[]", 502),
    (b"200 OK", b"no json", 502),
])
def test_status_of_the_backend_reaches_the_caller(start, env_of, canned, status, body, seen):
    app = start("productpage", env=env_of(ratings=canned(status, body)))
    assert ask_json(app, "/api/v1/products/0/ratings")[0] == seen


def test_page_survives_answers_of_any_shape(start, env_of, canned):
    odd = json.dumps({"reviews": 1, "hops": "x", "version": ["<"], "color": {}}).encode()
    app = start("productpage", env=env_of(reviews=canned(b"200 OK", odd), details=1))
    page = app.page()
    assert page["reviews-version"]["data-color"] == "none"
    assert "hop-productpage" in page and "review-1" not in page


def test_user_and_trace_travel_on_but_the_certificate_does_not(start, env_of):
    echo = start("echo", "--version", "v7")
    app = start("productpage", env=env_of(reviews=echo.port))
    sent = {"x-request-id": "r1", "x-b3-traceid": "t1", "b3": "1-2", "traceparent": "00-a-b-01",
            "authorization": "Bearer x", "end-user": "forged", "cookie": "session=jason; a=b",
            "x-forwarded-client-cert": f"URI={GATEWAY}", "x-other": "no"}
    status, answer = ask_json(app, "/api/v1/products/0/reviews", headers=sent)
    assert status == 200 and answer["hops"][0]["service"] == "productpage"
    # The rest of the answer is echo's: what it received.
    assert answer["headers"]["end-user"] == "jason"
    for name in ("x-request-id", "x-b3-traceid", "b3", "traceparent", "authorization", "cookie"):
        assert answer["headers"][name] == sent[name]
    assert not {"x-forwarded-client-cert", "x-other"} & answer["headers"].keys()
    assert answer["version"] == "v7"


def test_login_names_the_user_and_logout_forgets(bookinfo):
    app = bookinfo("v1").productpage
    form = {"content-type": "application/x-www-form-urlencoded"}
    status, headers, _ = app.ask("/login", "POST", form, "username=jason")
    assert status == 303 and headers["location"] == "/productpage"
    cookie = headers["set-cookie"].split(";")[0]
    assert "HttpOnly" in headers["set-cookie"]
    page = app.page({"cookie": cookie})
    assert page["user"]["text"] == "jason" and "login-form" not in page
    status, headers, _ = app.ask("/logout", headers={"cookie": cookie})
    assert status == 303 and "Max-Age=0" in headers["set-cookie"]
    assert "user" not in app.page()


@pytest.mark.parametrize("name", ["", "%3Cscript%3E", "a%0d%0aset-cookie:x", "x" * 65])
def test_login_refuses_names_that_are_no_names(start, name):
    status, headers, _ = start("productpage").ask("/login", "POST", body=f"username={name}")
    assert status == 400 and "set-cookie" not in headers


def test_page_escapes_what_a_backend_says(start, env_of, canned):
    body = json.dumps({"author": "<script>alert(1)</script>"}).encode()
    app = start("productpage", env=env_of(details=canned(b"200 OK", body), reviews=1))
    _, _, html = app.ask("/productpage")
    assert b"<script>" not in html and b"&lt;script&gt;alert(1)" in html


def test_json_api(bookinfo):
    app = bookinfo("v3").productpage
    status, products = ask_json(app, "/api/v1/products")
    assert status == 200 and [product["id"] for product in products] == [0]
    assert ask_json(app, "/api/v1/products/0") == (200, products[0])
    assert ask_json(app, "/api/v1/products/1")[0] == 404
    _, reviews = ask_json(app, "/api/v1/products/0/reviews")
    assert (reviews["podname"], reviews["clustername"]) == ("reviews-v3", "Kubernetes")
    _, ratings = ask_json(app, "/api/v1/products/0/ratings")
    shown = {item["reviewer"]: item["rating"]["stars"] for item in reviews["reviews"]}
    assert ratings["ratings"] == shown
    assert [step["service"] for step in reviews["hops"]] == ["productpage", "reviews", "ratings"]


def test_every_service_answers_health_and_refuses_other_paths(bookinfo):
    app = bookinfo("v1")
    for service in (app.productpage, app.details, app.reviews, app.ratings):
        assert ask_json(service, "/health")[1]["status"] == "ok"
        assert ask_json(service, "/nothing/here")[0] == 404
        assert ask_json(service, "/health", method="DELETE")[0] == 405
        status, _, body = service.ask("/health", "HEAD")
        assert (status, body) == (200, b"")


def test_one_connection_carries_many_requests(start):
    connection = start("details").connect()
    sockets = set()
    for _ in range(3):
        connection.request("GET", "/details/0")
        reply = connection.getresponse()
        assert reply.version == 11 and json.loads(reply.read())["id"] == 0
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1 and None not in sockets


def test_echo_shows_the_request_and_does_what_the_query_says(start):
    echo = start("echo", pod="echo-1", env={"SERVICE_VERSION": "v2"})
    began = time.monotonic()
    status, answer = ask_json(echo, "/any/path?code=503&delay=300&x=1", method="PUT",
                              headers={"X-Two": "b"}, body="hello")
    assert status == 503 and time.monotonic() - began >= 0.3
    assert (answer["method"], answer["path"], answer["body"]) == ("PUT", "/any/path", "hello")
    assert (answer["version"], answer["pod"]) == ("v2", "echo-1")
    assert answer["headers"]["x-two"] == "b" and answer["query"]["x"] == "1"
    assert answer["env"] == {"SERVICE_VERSION": "v2", "POD_NAME": "echo-1"}
    for query in ("code=99", "code=600", "code=x", "delay=-1", "delay=60001"):
        assert echo.ask(f"/?{query}")[0] == 400


def test_bodies_in_chunks_are_read_and_large_ones_refused(start):
    echo = start("echo")
    _, answer = ask_json(echo, "/", method="POST", body=iter([b"one ", b"two"]))
    assert answer["body"] == "one two"
    status, headers, _ = echo.ask("/", "POST", {"content-length": "65537"})
    assert status == 413 and headers["connection"] == "close"
    status, _, _ = echo.ask("/", "POST", {"content-length": "-1"})
    assert status == 400


def test_termination_lets_requests_end_and_serves_late_ones(start):
    echo = start("echo")
    kept = echo.connect()
    kept.request("GET", "/")
    kept.getresponse().read()
    slow = []
    thread = threading.Thread(target=lambda: slow.append(echo.ask("/?delay=800")))
    thread.start()
    # A request that is on its way before the signal, as far as a client can know it.
    until(lambda: _established(echo) >= 2, "the slow request has its connection")
    echo.process.terminate()
    until(lambda: echo.ask("/")[1]["connection"] == "close", "the service drains")
    kept.request("GET", "/")
    late = kept.getresponse()
    assert late.status == 200 and late.headers["connection"] == "close"
    thread.join()
    assert slow[0][0] == 200
    assert echo.stop() == 0


def _established(app):
    """How many connections the service has accepted, from the kernel's table."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[1].endswith(f":{app.port:04X}") and row[3] == "01" for row in rows)


def test_second_instance_on_a_port_says_why_it_stops(start):
    first = start("details")
    code = subprocess.run([*first.process.args[:2], "--host", "127.0.0.1", "--port",
                           str(first.port)], capture_output=True, text=True, timeout=20,
                          check=False)
    assert code.returncode == 1 and "details: 127.0.0.1:" in code.stderr


def test_start_asks_no_dns(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\ndef no(*_): raise SystemExit('DNS was asked')\nsocket.getfqdn = socket.gethostbyaddr = no\n")
    app = App("details", env={"PYTHONPATH": str(tmp_path)})
    assert app.port and app.stop() == 0


def screenshot(url, folder):
    browser = shutil.which("chromium")
    assert browser, "chromium is not installed: see tools/packages.txt"
    picture = folder / "page.png"
    subprocess.run([browser, *CHROMIUM, f"--user-data-dir={folder / 'profile'}",
                    f"--screenshot={picture}", url], check=True, timeout=90,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return png.colors(picture.read_bytes())


def test_browser_draws_the_page_with_stars_of_the_version(bookinfo, tmp_path):
    for version, star, other in (("v2", BLACK_STAR, RED_STAR), ("v3", RED_STAR, BLACK_STAR)):
        folder = tmp_path / version
        folder.mkdir()
        url = f"http://127.0.0.1:{bookinfo(version).productpage.port}/productpage"
        width, height, colors = screenshot(url, folder)
        assert (width, height) == (1200, 1100)
        # A blank or an error page has a handful of colours, and one that covers nearly all.
        assert len(colors) > 500 and max(colors.values()) < 0.8 * width * height
        assert colors.get(star, 0) > 1000
        assert colors.get(other, 0) == 0
