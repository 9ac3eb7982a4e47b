"""details: the facts about a book."""

import sys

sys.dont_write_bytecode = True  # the folder is watched as a source of configuration

from bookservice import arguments, hop, identity_of, json_response, serve

BOOK = {
    "id": 0,
    "title": "Moby-Dick; or, The Whale",
    "author": "Herman Melville",
    "year": 1851,
    "type": "hardcover",
    "pages": 635,
    "publisher": "Harbour Press",
    "language": "English",
    "ISBN-10": "0000000000",
    "ISBN-13": "9780000000002",
}


def main():
    options = arguments("details").parse_args()
    me = identity_of("details", options)

    def details(request):
        if int(request.args["id"]) != BOOK["id"]:
            return json_response({"error": "no such product"}, 404)
        return json_response({**BOOK, "hops": [hop(me, request.headers)]})

    serve(options, me, [("GET", "/details/(?P<id>[0-9]{1,9})", details)])


if __name__ == "__main__":
    main()
