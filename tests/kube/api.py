"""A client of the Kubernetes API for tests: objects in, objects out, a refusal is an exception with the server's words."""
import base64
import http.client
import json
import re
import socket
import ssl
import threading
import urllib.parse


class Refused(Exception):
    def __init__(self, status, text):
        self.status = status
        try:
            self.message = json.loads(text).get("message", text)
        except ValueError:
            self.message = text
        super().__init__(f"{status}: {self.message}")


class Api:
    """`connect` makes a socket to the server: in another network namespace where the server is in one. Credentials: a certificate or a token."""

    def __init__(self, host, port, ca_file, certificate=None, token=None, connect=socket.create_connection):
        self.host, self.port, self.ca_file, self.token, self.connect = host, port, ca_file, token, connect
        self.tls = ssl.create_default_context(cafile=ca_file)
        if certificate:
            self.tls.load_cert_chain(*certificate)
        self.connection, self.lock = None, threading.Lock()
        self.resources = {}  # apiVersion -> {kind: (plural, namespaced)}
        self.warnings = []  # of the last answer
        self.url = f"https://{host}:{port}"

    def with_token(self, token):
        return Api(self.host, self.port, self.ca_file, token=token, connect=self.connect)

    # ---- requests

    def _exchange(self, method, path, body, headers):
        if self.connection is None:
            socket_ = self.tls.wrap_socket(self.connect((self.host, self.port), 10), server_hostname=self.host)
            socket_.settimeout(60)
            self.connection = http.client.HTTPConnection(self.host, self.port)
            self.connection.sock = socket_
        try:
            self.connection.request(method, path, body=body, headers=headers)
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def send(self, method, path, body=None, content_type="application/json", accept="application/json"):
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        with self.lock:
            kept = self.connection is not None
            try:
                status, fields, answer = self._exchange(method, path, text, headers)
            except (OSError, http.client.HTTPException):
                if not kept or method != "GET":
                    raise
                status, fields, answer = self._exchange(method, path, text, headers)  # the server closed an idle connection
            self.warnings = [re.sub(r'^299 \S+ "(.*)"$', r"\1", w) for w in fields.get_all("Warning") or []]
        if status >= 400:
            raise Refused(status, answer)
        return answer

    def json(self, *arguments, **named):
        return json.loads(self.send(*arguments, **named))

    # ---- objects

    def _resource(self, version, kind):
        if kind not in self.resources.get(version, {}):
            found = self.json("GET", f"/api/{version}" if "/" not in version else f"/apis/{version}")["resources"]
            self.resources[version] = {r["kind"]: (r["name"], r["namespaced"]) for r in found if "/" not in r["name"]}
        assert kind in self.resources[version], f"the server has no {kind} in {version}"
        return self.resources[version][kind]

    def path(self, version, kind, ns=None, name=None, sub=None, **query):
        plural, namespaced = self._resource(version, kind)
        parts = ["/api" if "/" not in version else "/apis", version]
        if namespaced and ns:
            parts += ["namespaces", ns]
        parts += [plural, *([name] if name else []), *([sub] if sub else [])]
        return "/".join(parts) + (f"?{urllib.parse.urlencode(query)}" if query else "")

    def _path_to(self, obj, with_name, **query):
        meta = obj["metadata"]
        return self.path(obj["apiVersion"], obj["kind"], meta.get("namespace", "default"), meta["name"] if with_name else None, **query)

    def create(self, obj, dry_run=False, strict=False):
        query = {**({"dryRun": "All"} if dry_run else {}), **({"fieldValidation": "Strict"} if strict else {})}
        return self.json("POST", self._path_to(obj, False, **query), obj)

    def replace(self, obj, **query):
        return self.json("PUT", self._path_to(obj, True, **query), obj)

    def edit(self, kind, name, change, ns="default", version="v1"):
        """Reads, changes and replaces, again where somebody else (galley writes statuses) wrote in between."""
        for _ in range(20):
            obj = self.get(kind, name, ns, version)
            change(obj)
            try:
                return self.replace(obj)
            except Refused as refused:
                if refused.status != 409:
                    raise
        raise AssertionError(f"{kind} {ns}/{name} is written by others all the time")

    def apply(self, *objects, manager="test"):
        """Server-side apply; returns what the last one became."""
        made = None
        for obj in objects:
            made = self.json("PATCH", self._path_to(obj, True, fieldManager=manager, force="true"), obj, "application/apply-patch+yaml")
        return made

    def get(self, kind, name, ns="default", version="v1"):
        return self.json("GET", self.path(version, kind, ns, name))

    def list(self, kind, ns=None, version="v1", **query):
        return self.json("GET", self.path(version, kind, ns, **query))["items"]

    def patch(self, kind, name, change, ns="default", version="v1", sub=None, form="merge"):
        return self.json("PATCH", self.path(version, kind, ns, name, sub), change, f"application/{form}-patch+json")

    def delete(self, kind, name, ns="default", version="v1", now=False):
        path = self.path(version, kind, ns, name)
        return self.send("DELETE", path, {"gracePeriodSeconds": 0} if now else {})

    def exists(self, kind, name, ns="default", version="v1"):
        try:
            return self.get(kind, name, ns, version)
        except Refused as refused:
            if refused.status != 404:
                raise
            return None

    # ---- accounts

    def token_of(self, ns, account, audience=None, seconds=3600, pod=None):
        """pod: the object that the token is bound to."""
        spec = {"expirationSeconds": seconds, **({"audiences": [audience]} if audience else {})}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self.json("POST", self.path("v1", "ServiceAccount", ns, account, "token"), request)["status"]["token"]

    def may(self, user, verb, resource, ns="", group="", name="", sub=""):
        """What `kubectl auth can-i` asks. user: "ns:account"."""
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": ns, "name": name, "subresource": sub}
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[0]}", "system:authenticated"]
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": f"system:serviceaccount:{user}", "groups": groups, "resourceAttributes": attributes}}
        return self.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]

    def kubeconfig(self, path, certificate=None):
        """A kubeconfig with this client's token, or with a certificate."""
        user = {"token": self.token} if self.token else {"client-certificate": str(certificate[0]), "client-key": str(certificate[1])}
        authority = base64.b64encode(open(self.ca_file, "rb").read()).decode()
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                  "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
                  "users": [{"name": "u", "user": user}]}
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path
