"""Run in the node's network namespace, by the Python that has grpcio: a certificate request to citadel, or an xDS stream to pilot over TLS.

    in_node.py sign  {"address":, "roots":, "token":, "csr":, "seconds":}           prints {"chain": [...]} or {"code":, "details":}
    in_node.py watch {"address":, "roots":, "key":, "chain":, "node":}              prints {"clusters": N} or {"code":, "details":}
"""
import json
import pathlib
import sys
import time

import grpc
import wire
import xds

CREATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def sign(ask):
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ask["roots"]).read_bytes())
    options = [("grpc.ssl_target_name_override", ask.get("name", "localhost"))]
    with grpc.secure_channel(ask["address"], credentials, options) as channel:
        call = channel.unary_unary(CREATE, request_serializer=None, response_deserializer=None)
        request = wire.put(1, ask["csr"]) + wire.put(3, ask["seconds"])
        reply = call(request, metadata=[("authorization", "Bearer " + ask["token"])], timeout=10)
    return {"chain": [c.decode() for c in wire.every(reply, 1)]}


def watch(ask):
    files = [pathlib.Path(ask[k]).read_bytes() for k in ("roots", "key", "chain")]
    with xds.Delta(ask["address"], ask["node"], grpc.ssl_channel_credentials(*files)) as client:
        end = time.monotonic() + 10
        while client.error is None and not client.state["cds"] and time.monotonic() < end:
            time.sleep(0.01)
        if client.error is not None:
            raise client.error
        return {"clusters": len(client.state["cds"])}


def main():
    try:
        print(json.dumps({"sign": sign, "watch": watch}[sys.argv[1]](json.loads(sys.argv[2]))))
    except grpc.RpcError as error:
        print(json.dumps({"code": error.code().name, "details": error.details()}))


if __name__ == "__main__":
    main()
