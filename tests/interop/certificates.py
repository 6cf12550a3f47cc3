"""A certificate authority for a test, with what it signed: a server's for localhost, and a client's."""
import os
import subprocess

import registry

SUBJECT = {"server": "/CN=localhost", "client": "/CN=guest"}


def openssl(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def make(directory):
    registry.need("openssl")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(directory, "req", "-x509", *key, "-days", "3650", "-subj", "/CN=interop", "-keyout", "ca_key.pem",
            "-out", "ca_certificate.pem")
    with open(os.path.join(directory, "extensions"), "w", encoding="ascii") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
    for name, subject in SUBJECT.items():
        openssl(directory, "req", "-new", *key, "-subj", subject, "-keyout", f"{name}_key.pem", "-out", f"{name}.csr")
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-days", "3650", "-CA", "ca_certificate.pem",
                "-CAkey", "ca_key.pem", "-CAcreateserial", "-extfile", "extensions", "-out", f"{name}_certificate.pem")


def directory():
    return registry.once("certificates", make)
