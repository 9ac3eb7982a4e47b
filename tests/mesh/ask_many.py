"""Run inside a pod: many requests one after the other over one connection; prints {"answers": {"v1": 512, ...}, "failures": [...]}.

    python3 ask_many.py HOST PORT PATH COUNT [NAME:VALUE ...]
"""
import collections
import http.client
import json
import sys


def main():
    host, port, path, count, *headers = sys.argv[1:]
    headers = dict(h.split(":", 1) for h in headers)
    answers, failures = collections.Counter(), []
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    for _ in range(int(count)):
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != 200:
                failures.append(f"{reply.status} {body[:60]!r}")
            else:
                answers[json.loads(body).get("version", "?")] += 1
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
            connection.close()
    print(json.dumps({"answers": answers, "failures": failures}))


if __name__ == "__main__":
    main()
