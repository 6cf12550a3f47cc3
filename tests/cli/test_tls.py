"""The commands trust who the system trusts, and with SSL_CERT_FILE another authority."""
import os
import subprocess

import pytest

from support.server import Server, binary


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A server's that signed itself."""
    where = tmp_path_factory.mktemp("pki")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", where / "key.pem", "-out", where / "cert.pem"], check=True, capture_output=True, timeout=60)
    return where


def test_an_authority_of_ones_own(certificate, tmp_path):
    args = ["--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem")]
    with Server(args=args, management=True) as server:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BARID_") and k != "SSL_CERT_FILE"}
        env = {**clean, "BARID_SERVER": f"https://localhost:{server.port}", "BARID_HOME": str(tmp_path), "BARID_PASSWORD": "correct horse",
               "BARID_BROKER": f"https://localhost:{server.management_port}"}

        def run(*words, **more):
            return subprocess.run([binary(), *words], env={**env, **more}, capture_output=True, text=True, timeout=60,
                                  stdin=subprocess.DEVNULL)

        trusted = {"SSL_CERT_FILE": str(certificate / "cert.pem")}
        for words in (["register", "alice"], ["login", "alice"], ["user", "list"]):
            assert run(*words).returncode != 0, words
            done = run(*words, **trusted)
            assert done.returncode == 0, (words, done.stderr)
        status = run("status", "--server", env["BARID_SERVER"], "--json", **trusted)
        assert status.returncode == 0, status.stderr
        listened = run("listen", "--as", "alice", "--once", **trusted)  # a WebSocket
        assert listened.returncode == 0, listened.stderr
