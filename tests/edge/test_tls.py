"""What testssl.sh finds: versions, ciphers, known weaknesses, certificate, security headers."""
import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import inlet

# What is above `INFO` and accepted, each with its reason.
ACCEPTED = {
    "cert_revocation": "an authority of this test has nowhere to publish a list of revoked ones",
}
# Said by testssl.sh of itself and the openssl it runs, not of the server.
OF_THE_SCANNER = {"engine_problem", "old_fart"}
# A check that this openssl can't make. Those that must have been made are named in a test.
NOT_MADE = re.compile(r"lack of local support|not supported by local OpenSSL"
                      r"|your \S*openssl\S* (cannot|does not)|openssl\S* doesn't support", re.I)
# What testssl.sh says of a version or a weakness that is not there.
ABSENT = {"not offered", "not offered (OK)"}
OFFERED = {"TLS1_2": "offered", "TLS1_3": "offered with final"}


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def write_signed(folder):
    """An authority, and a certificate for this machine that it signed: what clients trust."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "90",
            "-subj", "/CN=Authority of a test")
    openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj",
            "/CN=localhost")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                                       "keyUsage=digitalSignature\n"
                                       "extendedKeyUsage=serverAuth\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.pem", "-days", "90", "-extfile", "extensions")


def is_of_the_server(row):
    """Whether a finding is one of the server, and not of the tools that looked for it."""
    if row["id"] in OF_THE_SCANNER:
        return False
    return not (row["severity"] == "WARN" and NOT_MADE.search(row["finding"]))


class Judgement(unittest.TestCase):
    def test_what_the_scanner_says_of_itself_is_no_finding_of_the_server(self):
        def judged(name, severity, finding):
            return is_of_the_server({"id": name, "severity": severity, "finding": finding})
        engine = "No engine or GOST support via engine with your /usr/bin/openssl"
        self.assertFalse(judged("engine_problem", "WARN", engine))
        self.assertFalse(judged("SSLv2", "WARN", "not tested due to lack of local support"))
        self.assertFalse(judged("NPN", "WARN", "not tested /usr/bin/openssl doesn't support NPN"))
        self.assertTrue(judged("ROBOT", "WARN", "check failed, pls report"))
        self.assertTrue(judged("heartbleed", "CRITICAL", "lack of local support"))
        self.assertTrue(judged("TLS1", "LOW", "offered (deprecated)"))


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="inlet-testssl-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        write_signed(cls.folder)
        cls.up = inlet.Up("--tls-cert", cls.folder / "server.pem", "--tls-key",
                          cls.folder / "server.key", trusted=cls.folder / "ca.pem")
        cls.addClassCleanup(cls.up.stop)
        host, port = cls.up.address("https")
        found = cls.folder / "found.json"
        # Nothing is looked up by name and nothing is sent anywhere else.
        subprocess.run(["testssl", "--ip", host, "--nodns", "none", "--quiet", "--color", "0",
                        "--warnings", "off", "--add-ca", cls.folder / "ca.pem", "--jsonfile",
                        found, f"localhost:{port}"],
                       cwd=cls.folder, timeout=540, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        cls.findings = {row["id"]: row for row in json.loads(found.read_text())}

    def test_nothing_is_found_that_is_not_accepted_with_its_reason(self):
        bad = {name: (row["severity"], row["finding"]) for name, row in self.findings.items()
               if row["severity"] not in ("OK", "INFO") and is_of_the_server(row)
               and name not in ACCEPTED}
        self.assertEqual(bad, {})

    def test_only_tls_1_2_and_1_3_are_offered(self):
        for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertIn(self.findings[version]["finding"], ABSENT, version)
        for version, words in OFFERED.items():
            self.assertIn(words, self.findings[version]["finding"], version)

    def test_only_ciphers_with_forward_secrecy_and_authenticated_encryption_are_offered(self):
        ciphers = [row["finding"] for name, row in self.findings.items()
                   if name.startswith("cipher_x")]
        self.assertGreaterEqual(len(ciphers), 6, "both versions have three")
        for cipher in ciphers:
            self.assertRegex(cipher, "AESGCM|ChaCha20", cipher)
            self.assertRegex(cipher, "ECDH", cipher)

    def test_all_known_weaknesses_were_looked_for(self):
        for name in ("heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "CRIME_TLS",
                     "BREACH", "POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST",
                     "LUCKY13", "RC4"):
            self.assertIn(self.findings[name]["severity"], ("OK", "INFO"), name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
