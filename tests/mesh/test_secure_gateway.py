"""A gateway's certificates from Secrets and ConfigMaps, over SDS to a real Envoy: they come, are rotated, are refused, and are nowhere else."""
import subprocess
import textwrap

import pytest
from util import until

GATEWAY = "istio-system/istio-ingressgateway"
HOST = "secure.example.com"
PORT = 8443

OBJECTS = f"""apiVersion: v1
kind: Service
metadata: {{name: secure-ingress, namespace: istio-system}}
spec: {{clusterIP: 10.96.9.9, selector: {{istio: ingressgateway}}, ports: [{{name: https, port: 443, targetPort: {PORT}}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: secure, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ["{HOST}"], tls: {{mode: MODE, credentialName: web}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: secure, namespace: default}}
spec: {{hosts: ["{HOST}"], gateways: [secure], http: [{{route: [{{destination: {{host: productpage, port: {{number: 9080}}}}}}]}}]}}
"""


def authority(folder):
    """issue(name): a certificate of one CA, as files; made anew at every call."""
    def openssl(*argv):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, cwd=folder)

    folder.mkdir()
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-days", "2", "-subj", f"/CN={folder.name}")

    def issue(name):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{HOST}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-copy_extensions", "copy", "-out", f"{name}.pem")
        return folder / f"{name}.pem", folder / f"{name}.key"

    issue.ca = folder / "ca.pem"
    return issue


@pytest.fixture
def pki(tmp_path):
    return authority(tmp_path / "pki")


@pytest.fixture
def other_pki(tmp_path):
    return authority(tmp_path / "other-pki")


def secret(**files):
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: istio-system}\nstringData:\n"
    return text + "".join(f"  {key}: |\n{textwrap.indent(path.read_text(), '    ')}" for key, path in files.items())


def ask(mesh, ca, *options):
    """(status, subject of the server's certificate), from the node."""
    ip = mesh.unit(GATEWAY)["ip"]
    status, body = mesh.curl(None, f"https://{HOST}:{PORT}/productpage", "--resolve", f"{HOST}:{PORT}:{ip}", "--cacert", ca, "-o", "/dev/null",
                             "-w", "%{certs}\n%{http_code}", *options)
    subject = next((line.split("CN", 1)[1].strip(" =") for line in body.splitlines() if line.startswith("Subject:")), "")
    return status, subject


def served(mesh, ca, *options):
    found = ask(mesh, ca, *options)
    assert found[0] == 200, found
    return found[1]


def test_P49_P98_a_certificate_comes_from_a_secret_and_is_rotated(mesh, pki):
    mesh.write("secure.yaml", OBJECTS.replace("MODE", "SIMPLE"))
    mesh.settle()
    assert ask(mesh, pki.ca)[0] == 0, "nobody listens while there is no certificate"
    assert mesh.reviews(), "and the plain port goes on"
    certificate, key = pki("first")
    mesh.write("secret.yaml", secret(**{"tls.crt": certificate, "tls.key": key}))
    until(lambda: served(mesh, pki.ca) == "first", 10, "the first certificate")
    second, second_key = pki("second")
    mesh.write("secret.yaml", secret(**{"tls.crt": second, "tls.key": second_key}))
    until(lambda: served(mesh, pki.ca) == "second", 10, "the second certificate")
    # A key that does not fit is refused, and what was there stays.
    mesh.write("secret.yaml", secret(**{"tls.crt": second, "tls.key": key}))
    until(lambda: any("does not fit" in d["text"] for d in mesh.admin("galley").page("diagnostics")), 10, "galley says why")
    mesh.settle()
    assert served(mesh, pki.ca) == "second"


def test_P48_mutual_tls_of_clients_outside_the_mesh(mesh, pki):
    server, key = pki("server")
    client, client_key = pki("client")
    mesh.write("secure.yaml", OBJECTS.replace("MODE", "MUTUAL"))
    mesh.write("secret.yaml", secret(cert=server, key=key, cacert=pki.ca))
    until(lambda: served(mesh, pki.ca, "--cert", client, "--key", client_key) == "server", 10, "a client with a certificate is served")
    assert ask(mesh, pki.ca)[0] == 0, "one without is not"


def config_map(path):
    return ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients, namespace: default}\ndata:\n  ca.crt: |\n"
            + textwrap.indent(path.read_text(), "    "))


def test_P49_P98_the_ca_of_clients_comes_from_a_config_map_and_is_replaced(mesh, pki, other_pki):
    server, key = pki("server")
    client, client_key = pki("client")
    stranger, stranger_key = other_pki("stranger")
    mesh.write("secure.yaml", OBJECTS.replace("MODE, credentialName: web",
                                              "MUTUAL, credentialName: 'kubernetes://istio-system/web', caCertCredentialName: 'configmap://default/clients'"))
    mesh.write("secret.yaml", secret(cert=server, key=key))
    mesh.settle()
    assert ask(mesh, pki.ca, "--cert", client, "--key", client_key)[0] == 0, "nobody listens while there is no CA"
    mesh.write("clients.yaml", config_map(pki.ca))
    until(lambda: served(mesh, pki.ca, "--cert", client, "--key", client_key) == "server", 10, "a client of the CA is served")
    assert ask(mesh, pki.ca, "--cert", stranger, "--key", stranger_key)[0] == 0, "one of another CA is not"
    mesh.write("clients.yaml", config_map(other_pki.ca))
    until(lambda: served(mesh, pki.ca, "--cert", stranger, "--key", stranger_key) == "server", 10, "a client of the other CA")
    assert ask(mesh, pki.ca, "--cert", client, "--key", client_key)[0] == 0, "and those of the first are no longer believed"


def test_P49_private_keys_are_on_no_page_and_in_no_file_of_the_proxy(mesh, pki):
    certificate, key = pki("first")
    mesh.write("secure.yaml", OBJECTS.replace("MODE", "SIMPLE"))
    mesh.write("secret.yaml", secret(**{"tls.crt": certificate, "tls.key": key}))
    until(lambda: served(mesh, pki.ca) == "first", 10, "the certificate")
    text = key.read_text().splitlines()[1]
    for page in ("config_dump", "configz", "resourcesz", "bus", "cachez"):
        status, body = mesh.admin("pilot").ask(f"/debug/{page}")
        assert status == 200 and text not in body, (page, status)
    for path in mesh.pod_dir(GATEWAY).rglob("*"):
        if path.is_file():
            assert text.encode() not in path.read_bytes(), path
