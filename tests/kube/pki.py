"""Certificates of a test cluster, by openssl."""
import subprocess


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


class Authority:
    """A CA in a folder; issue() returns (certificate, key) as files."""

    def __init__(self, folder, name):
        self.folder, self.certificate, self.key = folder, folder / f"{name}.crt", folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 30, "-subj", f"/CN={name}",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, subject, usage="clientAuth", names=()):
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        extensions = ["keyUsage=critical,digitalSignature,keyEncipherment", f"extendedKeyUsage={usage}"]
        if names:
            extensions.append("subjectAltName=" + ",".join(names))
        (self.folder / f"{name}.ext").write_text("\n".join(extensions))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", key, "-out",
                self.folder / f"{name}.csr")
        openssl("x509", "-req", "-in", self.folder / f"{name}.csr", "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", 30,
                "-extfile", self.folder / f"{name}.ext", "-out", certificate)
        return certificate, key


def signing_pair(folder, name):
    """An RSA pair for service account tokens."""
    key, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl("genrsa", "-out", key, 2048)
    openssl("rsa", "-in", key, "-pubout", "-out", public)
    return key, public
