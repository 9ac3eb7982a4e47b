"""productpage: the page that people see. It asks details and reviews, and says who answered.

The name given in the login form is kept in a cookie and travels on as the header "end-user", so
that a mesh can route by it. There is no password: this shows routing, not access control.
"""

import re
import sys
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

sys.dont_write_bytecode = True  # the folder is watched as a source of configuration

import page
from bookservice import (Backend, Response, arguments, forwarded, hop, hops_of, identity_of,
                         json_response, serve)

PRODUCT = {
    "id": 0,
    "title": "Moby-Dick; or, The Whale",
    "description": "A young man goes to sea to cure his gloom and signs on with a captain who "
                   "hunts one whale only. A story of ships, work, weather and obsession.",
}
COOKIE = "session"
# What may stand in a header and in a cookie without quoting.
USER = re.compile(r"[A-Za-z0-9._@-]{1,64}")
UNAVAILABLE = {
    "details": "Sorry, product details are currently unavailable for this book.",
    "reviews": "Sorry, product reviews are currently unavailable for this book.",
    "ratings": "Sorry, product ratings are currently unavailable for this book.",
}
NO_STORE = {"Cache-Control": "no-store"}


def user_of(request):
    """The name of who is logged in, or None."""
    try:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie and USER.fullmatch(cookie.value) else None


def onward(request):
    """The headers for the services behind: the session's user replaces what the caller claims."""
    headers = forwarded(request.headers)
    user = user_of(request)
    if user:
        headers["end-user"] = user
    return headers


def redirect(cookie=None):
    headers = {"Location": "/productpage", **NO_STORE}
    if cookie:
        headers["Set-Cookie"] = cookie
    return Response(b"", 303, "text/plain", headers)


def login(request):
    form = parse_qs(request.body.decode(errors="replace"))
    name = form.get("username", [""])[0].strip()
    if not USER.fullmatch(name):
        return Response(page.render_message(
            "That name cannot be used",
            "A name has 1 to 64 letters, digits, dots, dashes, underscores or @."),
            400, page.CONTENT_TYPE)
    return redirect(f"{COOKIE}={name}; Path=/; HttpOnly; SameSite=Lax")


def logout(_request):
    return redirect(f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")


def products(_request):
    return json_response([PRODUCT])


def favicon(_request):
    return Response(page.ICON.encode(), 200, "image/svg+xml",
                    {"Cache-Control": "max-age=3600"})


class ProductPage:
    def __init__(self, me, timeout_ms):
        self.me = me
        self.backends = {name: Backend(name, timeout_ms) for name in UNAVAILABLE}

    def ask(self, name, request):
        return self.backends[name].get(f"/{name}/0", onward(request))

    def show(self, request):
        details, reviews = self.ask("details", request), self.ask("reviews", request)
        hops = [hop(self.me, request.headers)] + hops_of(details.data) + hops_of(reviews.data)
        html = page.render(PRODUCT, details.data, reviews.data, user_of(request), hops,
                           {"details": (UNAVAILABLE["details"], details.error),
                            "reviews": (UNAVAILABLE["reviews"], reviews.error)})
        version = str(reviews.data.get("version", "")) if reviews.data else ""
        return Response(html, 200, page.CONTENT_TYPE, {
            **NO_STORE,
            "X-Bookinfo-Reviews": version if USER.fullmatch(version) else "none",
        })

    def json_of(self, name):
        def run(request):
            if int(request.args["id"]) != PRODUCT["id"]:
                return json_response({"error": "no such product"}, 404)
            answer = self.ask(name, request)
            if answer.data is None:
                return json_response({"error": UNAVAILABLE[name], "cause": answer.error},
                                     answer.status)
            me = [hop(self.me, request.headers)]
            return json_response({**answer.data, "hops": me + hops_of(answer.data)})
        return run


def one_product(request):
    if int(request.args["id"]) != PRODUCT["id"]:
        return json_response({"error": "no such product"}, 404)
    return json_response(PRODUCT)


def main():
    parser = arguments("productpage")
    parser.add_argument("--timeout-ms", type=int, default=3000,
                        help="how long details and reviews may take")
    options = parser.parse_args()
    me = identity_of("productpage", options)
    app = ProductPage(me, options.timeout_ms)
    product = "/api/v1/products/(?P<id>[0-9]{1,9})"
    serve(options, me, [
        ("GET", "/", lambda _request: redirect()),
        ("GET", "/productpage", app.show),
        ("POST", "/login", login),
        ("GET", "/logout", logout),
        ("POST", "/logout", logout),
        ("GET", "/static/favicon.svg", favicon),
        ("GET", "/api/v1/products", products),
        ("GET", product, one_product),
        ("GET", f"{product}/details", app.json_of("details")),
        ("GET", f"{product}/reviews", app.json_of("reviews")),
        ("GET", f"{product}/ratings", app.json_of("ratings")),
    ])


if __name__ == "__main__":
    main()
