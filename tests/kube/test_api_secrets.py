"""Who may have the keys of a namespace's Secrets: galley asks a real API server under its own account, which answers by its RBAC."""
import base64

from cluster import Authority
from conftest import until

RBAC = "rbac.authorization.k8s.io/v1"


def test_P98_a_role_binding_decides_who_may_have_keys(plane, galley, tmp_path):
    certificate, key = Authority(tmp_path, "gateway-ca").issue("web", "/CN=web", "serverAuth", ["DNS:web.example"])
    held = {name: base64.b64encode(path.read_bytes()).decode() for name, path in (("tls.crt", certificate), ("tls.key", key))}
    plane.namespace("edge")
    role = {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": "gateway", "namespace": "edge"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]}
    binding = {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": "gateway", "namespace": "edge"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"},
               "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": "edge"}]}
    plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gateway", "namespace": "edge"}},
                    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web", "namespace": "edge"}, "type": "kubernetes.io/tls", "data": held})

    def answer():
        return galley.admin.page("access")["answers"].get("edge/gateway", "")

    until(lambda: "may not list" in answer(), 30, what="an account without a role is refused")
    plane.api.apply(role, binding)
    until(lambda: answer() == "allowed", 30, what="one with a role may")
    plane.api.delete("RoleBinding", "gateway", "edge", RBAC)
    until(lambda: "may not list" in answer(), 30, what="and no longer, when that is gone")
    plane.api.delete("Secret", "web", "edge")
    until(lambda: not answer(), 30, what="nobody is asked about where there is no key")
