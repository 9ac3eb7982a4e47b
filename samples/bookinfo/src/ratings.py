"""ratings: how many stars each reader gave a book."""

import sys

sys.dont_write_bytecode = True  # the folder is watched as a source of configuration

from bookservice import arguments, hop, identity_of, json_response, serve

STARS = {"Ada, second mate": 5, "Tomas, lighthouse keeper": 4}


def main():
    options = arguments("ratings").parse_args()
    me = identity_of("ratings", options)

    def ratings(request):
        if int(request.args["id"]) != 0:
            return json_response({"error": "no such product"}, 404)
        return json_response({"id": 0, "ratings": STARS, "hops": [hop(me, request.headers)]})

    serve(options, me, [("GET", "/ratings/(?P<id>[0-9]{1,9})", ratings)])


if __name__ == "__main__":
    main()
