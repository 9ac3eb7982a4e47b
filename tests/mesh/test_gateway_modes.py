"""The ways in: every TLS mode of a gateway with openssl as the client, server names, hosts, redirects, TCP, merging."""
import pytest
from lab import CALLER, INGRESS, INGRESS_IP, OUT, OUTSIDE, TLS, rules, service

CERTIFICATE = "serverCertificate: CERTS/server.pem, privateKey: CERTS/server.key"
ASK = "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"


def gateway(name, port, tls, hosts='["*.secure.test"]', protocol="HTTPS", more=""):
    tls = f", tls: {tls}" if tls else ""
    return (f"Gateway {name}\n  selector: {{istio: ingressgateway}}\n  servers: [{{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, "
            f"hosts: {hosts}{tls}{more}}}]\n---\n")


def to_echo(name, host, version="v1", path="/"):
    return (f"VirtualService {name}\n  hosts: [{host}]\n  gateways: [{name.partition('/')[2] or name}]\n  http:\n  - match: [{{uri: {{prefix: {path}}}}}]\n"
            f"    route: [{{destination: {{host: echo.default.svc.cluster.local, port: {{number: 80}}, subset: {version}}}}}]\n---\n")


def shake(lab, port, name, *options):
    """(whether the server answered 200, everything that was said) over TLS with openssl."""
    _, text = lab.openssl(f"{INGRESS_IP}:{port}", name, *options, text=ASK.format(name))
    return "HTTP/1.1 200" in text, text


def client_certificate(lab, name="visitor"):
    folder = lab.certificates.folder
    return ["-cert", folder / f"{name}.pem", "-key", folder / f"{name}.key"]


@rules(gateway("simple", 8461, f"{{mode: SIMPLE, {CERTIFICATE}}}"), to_echo("simple", "p48a.secure.test"))
def test_P48_simple(lab):
    good, text = shake(lab, 8461, "p48a.secure.test")
    assert good and "Verification: OK" in text and '"version": "v1"' in text, text
    assert not shake(lab, 8461, "other.example")[0], "no server has this name"
    assert "Protocol version: TLSv1.3" in text


@rules(gateway("mutual", 8462, f"{{mode: MUTUAL, {CERTIFICATE}, caCertificates: CERTS/ca.pem}}"), to_echo("mutual", "p48b.secure.test"),
       gateway("names", 8463, f"{{mode: MUTUAL, {CERTIFICATE}, caCertificates: CERTS/ca.pem, subjectAltNames: [visitor.example]}}"),
       to_echo("names", "p48c.secure.test"))
def test_P48_P49_mutual(lab):
    good, text = shake(lab, 8462, "p48b.secure.test", *client_certificate(lab))
    assert good and "x-forwarded-client-cert" in text and "visitor" in text, text
    good, text = shake(lab, 8462, "p48b.secure.test")
    assert not good and "alert" in text, text
    assert shake(lab, 8463, "p48c.secure.test", *client_certificate(lab))[0]
    assert not shake(lab, 8463, "p48c.secure.test", *client_certificate(lab, "server"))[0], "another name than the server wants"


@rules(gateway("optional", 8464, f"{{mode: OPTIONAL_MUTUAL, {CERTIFICATE}, caCertificates: CERTS/ca.pem}}"), to_echo("optional", "p48d.secure.test"))
def test_P48_optional_mutual(lab):
    good, text = shake(lab, 8464, "p48d.secure.test")
    assert good and "visitor" not in text, text
    good, text = shake(lab, 8464, "p48d.secure.test", *client_certificate(lab))
    assert good and "visitor" in text, text


@rules(gateway("through", 8465, "{mode: PASSTHROUGH}", '["one.secure.test", "two.secure.test"]', "TLS"), f"""
ServiceEntry p48far
  hosts: [p48far.ext.example]
  ports: [{{number: 4431, name: tls, protocol: TLS, targetPort: {TLS}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-1']}, labels: {{version: a}}}}, {{address: {OUT['out-2']}, labels: {{version: b}}}}]
---
DestinationRule p48far
  host: p48far.ext.example
  subsets: [{{name: a, labels: {{version: a}}}}, {{name: b, labels: {{version: b}}}}]
---
VirtualService through
  hosts: [one.secure.test, two.secure.test]
  gateways: [through]
  tls:
  - match: [{{port: 8465, sniHosts: [one.secure.test]}}]
    route: [{{destination: {{host: p48far.ext.example, port: {{number: 4431}}, subset: a}}}}]
  - match: [{{port: 8465, sniHosts: [two.secure.test]}}]
    route: [{{destination: {{host: p48far.ext.example, port: {{number: 4431}}, subset: b}}}}]
""")
def test_P48_P23_passthrough_by_server_name(lab):
    tls = {"name": "one.secure.test", "ca": str(lab.certificates.ca), "cert": str(lab.certificates.folder / "visitor.pem"),
           "key": str(lab.certificates.folder / "visitor.key")}
    (got,) = lab.talk(INGRESS_IP, 8465, pod=OUTSIDE, tls=tls)
    assert got.said["version"] == "out-1" and got.said["tls"] == {"sni": "one.secure.test", "alpn": None, "client": ["visitor.example"]}
    (got,) = lab.talk(INGRESS_IP, 8465, pod=OUTSIDE, tls={**tls, "name": "two.secure.test"})
    assert got.said["version"] == "out-2"
    good, text = lab.openssl(f"{INGRESS_IP}:8465", "three.secure.test")
    assert not good, text


@rules(gateway("inside", 8466, "{mode: ISTIO_MUTUAL}", '["p48e.secure.test"]', "HTTPS"), to_echo("inside", "p48e.secure.test", "v2"),
       service("istio-system/inside", 66, "{istio: ingressgateway}", "[{name: https, port: 8466, targetPort: 8466}]"), """
DestinationRule other/inside
  host: inside.istio-system.svc.cluster.local
  trafficPolicy: {portLevelSettings: [{port: {number: 8466}, tls: {mode: ISTIO_MUTUAL, sni: p48e.secure.test}}]}
---
VirtualService other/inside
  hosts: [p48e.secure.test]
  exportTo: ["."]
  http: [{route: [{destination: {host: inside.istio-system.svc.cluster.local, port: {number: 8466}}}]}]
""")
def test_P48_istio_mutual_for_callers_of_the_mesh(lab):
    got = lab.ask("p48e.secure.test", pod=CALLER)
    assert got.status == 200 and got.version == "v2", got
    assert "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway" in got.said["headers"]["x-forwarded-client-cert"]
    assert not shake(lab, 8466, "p48e.secure.test", *client_certificate(lab))[0], "only the mesh's own certificates count"


@rules(gateway("across", 8477, "{mode: AUTO_PASSTHROUGH}", '["*.local"]', "TLS"),
       service("istio-system/across", 67, "{istio: ingressgateway}", "[{name: tls, port: 8477, targetPort: 8477}]"), """
DestinationRule across
  host: across.istio-system.svc.cluster.local
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL, sni: outbound_.80_.v2_.echo.default.svc.cluster.local, subjectAltNames: ["spiffe://cluster.local/ns/default/sa/echo"]}
---
VirtualService across
  hosts: [p48x.secure.test]
  http: [{route: [{destination: {host: across.istio-system.svc.cluster.local, port: {number: 8477}}}]}]
""")
def test_P48_auto_passthrough_goes_by_the_meshs_own_server_names(lab):
    got = lab.ask("p48x.secure.test")
    assert got.status == 200 and got.version == "v2", got
    assert "ns/default/sa/client" in got.said["headers"]["x-forwarded-client-cert"], "the gateway did not end the mutual TLS"


@rules(gateway("redirect", 8467, "{httpsRedirect: true}", '["p48f.secure.test"]', "HTTP"), to_echo("redirect", "p48f.secure.test"))
def test_P48_https_redirect(lab):
    got = lab.ask("p48f.secure.test", "/x?y=1", pod=OUTSIDE, to=INGRESS_IP, port=8467)
    assert (got.status, got.headers["location"]) == (301, "https://p48f.secure.test/x?y=1")


@rules(gateway("new", 8468, f"{{mode: SIMPLE, {CERTIFICATE}, minProtocolVersion: TLSV1_3}}"), to_echo("new", "p49a.secure.test"),
       gateway("old", 8469, f"{{mode: SIMPLE, {CERTIFICATE}, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]}}"),
       to_echo("old", "p49b.secure.test"))
def test_P49_versions_and_ciphers(lab):
    assert shake(lab, 8468, "p49a.secure.test", "-tls1_3")[0] and not shake(lab, 8468, "p49a.secure.test", "-tls1_2")[0]
    good, text = shake(lab, 8469, "p49b.secure.test")
    assert good and "TLSv1.2" in text and "ECDHE-ECDSA-AES256-GCM-SHA384" in text, text
    assert not shake(lab, 8469, "p49b.secure.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")[0]


TWO = "\n".join(f"  - {{port: {{number: 8470, name: {n}, protocol: HTTPS}}, hosts: [{n}.secure.test], tls: {{mode: SIMPLE, serverCertificate: CERTS/{c}.pem, "
                f"privateKey: CERTS/{c}.key}}}}" for n, c in (("p50a", "server"), ("p50b", "visitor")))


@rules(f"Gateway two\n  selector: {{istio: ingressgateway}}\n  servers:\n{TWO}\n---\n", to_echo("two", "p50a.secure.test"),
       "VirtualService two-b\n  hosts: [p50b.secure.test]\n  gateways: [two]\n  http: [{route: [{destination: {host: echo, port: {number: 80}, subset: v2}}]}]\n")
def test_P50_a_certificate_for_each_name(lab):
    good, text = shake(lab, 8470, "p50a.secure.test")
    assert good and '"version": "v1"' in text and "CN = server" in text, text
    good, text = shake(lab, 8470, "p50b.secure.test")
    assert good and '"version": "v2"' in text and "CN = visitor" in text, text


@rules(gateway("tcp", 8471, "", '["*"]', "TCP"), gateway("ended", 8472, f"{{mode: SIMPLE, {CERTIFICATE}}}", '["*"]', "TLS"), """
VirtualService tcp
  hosts: ["*"]
  gateways: [tcp, ended]
  tcp:
  - match: [{port: 8471}]
    route: [{destination: {host: echo, port: {number: 9000}, subset: v1}}]
  - match: [{port: 8472}]
    route: [{destination: {host: echo, port: {number: 9000}, subset: v2}}]
""")
def test_P46_P48_tcp_and_tls_that_ends_at_the_gateway(lab):
    (got,) = lab.talk(INGRESS_IP, 8471, pod=OUTSIDE)
    assert got.said["version"] == "v1"
    (got,) = lab.talk(INGRESS_IP, 8472, pod=OUTSIDE, tls={"name": "any.secure.test", "ca": str(lab.certificates.ca)})
    assert got.said["version"] == "v2" and got.said["tls"] is None


@rules(gateway("only", 8473, "", '["other/*.secure.test"]', "HTTP"), to_echo("only", "p47a.secure.test").replace("gateways: [only]", "gateways: [default/only]"),
       to_echo("other/only", "p47b.secure.test").replace("gateways: [only]", "gateways: [default/only]"),
       gateway("bound", 8474, "", '["*"]', "HTTP").replace("hosts", "bind: 127.0.0.1, hosts"), to_echo("bound", "p46.secure.test"))
def test_P46_P47_hosts_of_a_namespace_and_an_address_to_bind(lab):
    assert lab.version("p47b.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8473) == "v1"
    assert lab.version("p47a.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8473).startswith("404")
    assert lab.version("p46.secure.test", pod=INGRESS, to="127.0.0.1", port=8474) == "v1"
    assert lab.version("p46.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8474).startswith("0 ConnectionRefused")


@rules(gateway("merged", 8475, "", '["*.secure.test"]', "HTTP"), to_echo("merged", "p25.secure.test", "v1", "/one"),
       to_echo("merged", "p25.secure.test", "v2", "/two").replace("VirtualService merged", "VirtualService merged-too"))
@pytest.mark.parametrize("path, version", [("/one", "v1"), ("/two", "v2"), ("/three", "404 ")])
def test_P25_virtual_services_of_one_host_are_merged(lab, path, version):
    assert lab.version("p25.secure.test", path, pod=OUTSIDE, to=INGRESS_IP, port=8475) == version


@rules(gateway("elsewhere", 8476, "", '["*"]', "HTTP").replace("istio: ingressgateway", "istio: nobody"), to_echo("elsewhere", "p45.secure.test"))
def test_P45_a_gateway_is_for_the_pods_it_selects(lab):
    assert lab.version("p45.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8476).startswith("0 ConnectionRefused")


@rules(gateway("hashed", 8478, f"{{mode: MUTUAL, {CERTIFICATE}, caCertificates: CERTS/ca.pem, verifyCertificateHash: [\"{'00' * 32}\"]}}"),
       to_echo("hashed", "p49h.secure.test"),
       gateway("files", 8479, "{mode: SIMPLE, tlsCertificates: [{serverCertificate: CERTS/server.pem, privateKey: CERTS/server.key}, "
                              "{serverCertificate: CERTS/rsa.pem, privateKey: CERTS/rsa.key}]}"), to_echo("files", "p49f.secure.test"),
       gateway("revoked", 8480, f"{{mode: MUTUAL, {CERTIFICATE}, caCertificates: CERTS/ca.pem, caCrl: CERTS/crl.pem}}"),
       to_echo("revoked", "p49r.secure.test"))
def test_P49_hashes_kinds_of_keys_and_revoked_certificates(lab):
    assert not shake(lab, 8478, "p49h.secure.test", *client_certificate(lab))[0], "not the certificate that is wanted"
    for kind, words in (("ECDSA+SHA256", "ECDSA"), ("RSA-PSS+SHA256", "RSA-PSS")):
        good, text = shake(lab, 8479, "p49f.secure.test", "-sigalgs", kind)
        assert good and f"signature type: {words}" in text.replace("Signature", "signature"), text
    assert shake(lab, 8480, "p49r.secure.test", *client_certificate(lab))[0]
    good, text = shake(lab, 8480, "p49r.secure.test", *client_certificate(lab, "gone"))
    assert not good and "certificate revoked" in text, text


@rules("Gateway socket\n  selector: {istio: ingressgateway}\n  servers: [{bind: 'unix://CERTS/gate.sock', port: {number: 0, name: unix, protocol: HTTP}, "
       "hosts: ['./*.secure.test']}]\n", to_echo("socket", "p46s.secure.test"))
def test_P46_P47_a_gateway_on_a_unix_socket(lab):
    socket = lab.certificates.folder / "gate.sock"
    assert lab.curl(INGRESS, "http://p46s.secure.test/", "--unix-socket", socket)[0] == 200
    assert lab.curl(INGRESS, "http://p47other.secure.test/", "--unix-socket", socket)[0] == 404


@pytest.mark.parametrize("protocol, port", [("GRPC", 8481), ("HTTP2", 8482), ("MONGO", 8483)])
@rules(*(gateway(f"p46{p.lower()}", n, "", '["*"]', p) + (to_echo(f"p46{p.lower()}", f"p46{p.lower()}.secure.test") if p != "MONGO" else "")
         for p, n in (("GRPC", 8481), ("HTTP2", 8482), ("MONGO", 8483))),
       "VirtualService mongo\n  hosts: ['*']\n  gateways: [p46mongo]\n  tcp: [{route: [{destination: {host: echo, port: {number: 9000}, subset: v1}}]}]\n")
def test_P46_protocols_of_a_server(lab, protocol, port):
    if protocol == "MONGO":
        assert lab.talk(INGRESS_IP, port, pod=OUTSIDE)[0].said["version"] == "v1"
    else:
        assert lab.curl(None, f"http://{INGRESS_IP}:{port}/", "--http2-prior-knowledge", "-H", f"Host: p46{protocol.lower()}.secure.test")[0] == 200
