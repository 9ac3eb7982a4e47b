"""echo: answers with what it received, for trying out routes and for tests of a mesh.

Any method, any path but /health and /peer. ?code=503 chooses the status, ?delay=250 waits that
many milliseconds before the answer.
"""

import os
import sys
import time

sys.dont_write_bytecode = True  # the folder is watched as a source of configuration

from bookservice import arguments, identity_of, json_response, peer_of, serve

MAX_DELAY_MS = 60_000


def number(text, low, high):
    """The number in text, or None if it is none in that range."""
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        return None
    return int(text[:9])


def main():
    options = arguments("echo").parse_args()
    me = identity_of("echo", options)

    def echo(request):
        code = number(request.query.get("code", "200"), 200, 599)
        delay_ms = number(request.query.get("delay", "0"), 0, MAX_DELAY_MS)
        if code is None or delay_ms is None:
            return json_response({"error": "code is 200 to 599, delay 0 to 60000 ms"}, 400)
        time.sleep(delay_ms / 1000)
        return json_response({
            "method": request.method, "path": request.path, "query": request.query,
            "headers": request.headers, "body": request.body.decode(errors="replace"),
            "peer": peer_of(request.headers), "version": me.version, "pod": me.pod,
            "env": {name: os.environ[name] for name in ("SERVICE_VERSION", "POD_NAME")
                    if name in os.environ},
        }, code, {"x-echo-version": me.version, "x-echo-pod": me.pod})

    serve(options, me, [("*", ".*", echo)])


if __name__ == "__main__":
    main()
