"""reviews: what readers say about a book.

v1 does not call ratings; v2 shows ratings as black stars, v3 as red ones. Any other version can
be made with --stars, for a release of your own.
"""

import os
import sys

sys.dont_write_bytecode = True  # the folder is watched as a source of configuration

from bookservice import (Backend, arguments, forwarded, hop, hops_of, identity_of, json_response,
                         serve)

COLORS = {"v1": "none", "v2": "black", "v3": "red"}
TEXTS = {
    "Ada, second mate":
        "Read it on the night watch and forgot to ring the bell. Long where the sea is long, "
        "and then all at once very fast.",
    "Tomas, lighthouse keeper":
        "One star less for the chapters on rope. They are correct, I must admit; I checked "
        "every knot.",
}
NO_RATINGS = "Ratings are currently unavailable"


def review(reviewer, text, color, answer):
    """One review; its rating is absent in v1, and an error when ratings did not answer."""
    item = {"reviewer": reviewer, "text": text}
    if color == "none":
        return item
    ratings = answer.data.get("ratings") if answer.data else None
    if not isinstance(ratings, dict):
        item["rating"] = {"error": NO_RATINGS}
    elif reviewer in ratings:
        item["rating"] = {"stars": ratings[reviewer], "color": color}
    return item


def main():
    parser = arguments("reviews")
    parser.add_argument("--stars", choices=("none", "black", "red", "blue", "green"),
                        default=os.environ.get("STAR_COLOR"),
                        help="colour of the stars (STAR_COLOR; by default as the version has it)")
    parser.add_argument("--timeout-ms", type=int, default=2500, help="how long ratings may take")
    options = parser.parse_args()
    color = options.stars or COLORS.get(options.version, "none")
    me = identity_of("reviews", options)
    ratings = Backend("ratings", options.timeout_ms)

    def reviews(request):
        if int(request.args["id"]) != 0:
            return json_response({"error": "no such product"}, 404)
        answer = None
        if color != "none":
            answer = ratings.get("/ratings/0", forwarded(request.headers))
        hops = [hop(me, request.headers)] + hops_of(answer.data if answer else None)
        items = [review(who, text, color, answer) for who, text in TEXTS.items()]
        return json_response({
            "id": "0", "version": me.version, "podname": me.pod, "clustername": me.cluster,
            "color": color, "reviews": items, "hops": hops,
        })

    serve(options, me, [("GET", "/reviews/(?P<id>[0-9]{1,9})", reviews)])


if __name__ == "__main__":
    main()
