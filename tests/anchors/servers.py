"""A time-stamp authority and a witness, each a small real one, on a port of this machine."""

import hashlib
import struct
import subprocess
import threading
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Server(ThreadingHTTPServer):
    """Answers each POST with what ``answer(path, body)`` gives: status and body. ``hook`` may answer first."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.hook, self.asked = answer, None, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(body)
        found = self.server.hook(self, body) if self.server.hook else None
        if found == "hung":
            return
        status, answer = found or self.server.answer(self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextmanager
def serving(answer):
    server = Server(answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# --- openssl as the authority

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""
EXTENSIONS = "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n"


def openssl(folder, *words, check=True):
    return subprocess.run(["openssl", *map(str, words)], cwd=folder, capture_output=True, text=True, check=check)


class Authority:
    """A certificate authority and a time-stamp authority under it, in a folder of their own."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        (folder / "extensions").write_text(EXTENSIONS)
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._run("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "9", "-subj", "/CN=test root")
        self._run("req", *ec, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=test authority")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "9", "-extfile", "extensions")
        self._run("x509", "-req", "-in", "tsa.csr", *signing, "-out", "tsa.pem")

    @property
    def ca(self):
        return self.folder / "ca.pem"

    def answer(self, path, body):
        (self.folder / "query").write_bytes(body)
        self._run("ts", "-reply", "-queryfile", "query", "-config", "tsa.cnf", "-section", "here", "-out", "reply")
        return 200, (self.folder / "reply").read_bytes()

    def end_at(self, moment):
        """Its certificate, and not that of its root, ends then."""
        issuer = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        before = x509.load_pem_x509_certificate((self.folder / "tsa.pem").read_bytes())
        made = (
            x509.CertificateBuilder(issuer.subject, before.subject, before.public_key(), before.serial_number)
            .not_valid_before(before.not_valid_before_utc)
            .not_valid_after(moment)
        )
        for one in before.extensions:
            made = made.add_extension(one.value, one.critical)
        signed = made.sign(key, hashes.SHA256())
        (self.folder / "tsa.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def agrees(self, note, stamp, *more):
        """Whether openssl says that the stamp is of the note."""
        words = ("ts", "-verify", "-data", note, "-in", stamp, "-CAfile", self.ca, *more)
        return openssl(self.folder, *words, check=False).returncode == 0

    def _run(self, *words):
        openssl(self.folder, *words)


# --- a witness, written from c2sp.org/tlog-witness and RFC 6962 alone


class Witness:
    def __init__(self, log_key, name="witness.example/w1"):
        """``log_key`` is the verifier key of the log that it knows, as text."""
        self.origin, _, rest = log_key.partition("+")
        self.log_key_hash, _, encoded = rest.partition("+")
        self.log_key = Ed25519PublicKey.from_public_bytes(b64decode(encoded)[1:])
        self.key, self.name = Ed25519PrivateKey.from_private_bytes(b"w" * 32), name
        self.size, self.root, self.behind = 0, None, 0  # seconds that its clock is behind
        self.lock = threading.Lock()

    @property
    def vkey(self):
        public = b"\x04" + self.key.public_key().public_bytes_raw()
        return f"{self.name}+{self._key_hash().hex()}+{b64encode(public).decode()}"

    def answer(self, path, body):
        head, _, note = body.decode().partition("\n\n")
        old, *proof = head.split("\n")
        text, _, signatures = note.partition("\n\n")
        text += "\n"
        origin, size, root = text.split("\n")[:3]
        old_size, size, root = int(old.removeprefix("old ")), int(size), b64decode(root)
        if path != "/add-checkpoint" or origin != self.origin:
            return 404, b""
        if not any(self._is_signed(text, line) for line in signatures.splitlines()):
            return 403, b""
        if old_size > size:
            return 400, b""
        with self.lock:
            if old_size != self.size or (size == self.size and self.root != root):
                return 409, f"{self.size}\n".encode()
            if old_size and not consistent(old_size, size, list(map(b64decode, proof)), self.root, root):
                return 422, b""
            self.size, self.root = size, root
        return 200, self._cosign(text).encode()

    def _is_signed(self, text, line):
        _, name, encoded = line.split(" ")
        raw = b64decode(encoded)
        try:
            self.log_key.verify(raw[4:], text.encode())
        except InvalidSignature:
            return False
        return (name, raw[:4].hex()) == (self.origin, self.log_key_hash)

    def _cosign(self, text):
        now = int(time.time()) - self.behind
        signature = self.key.sign(f"cosignature/v1\ntime {now}\n{text}".encode())
        raw = self._key_hash() + struct.pack(">Q", now) + signature
        return f"— {self.name} {b64encode(raw).decode()}\n"

    def _key_hash(self):
        public = self.key.public_key().public_bytes_raw()
        return hashlib.sha256(self.name.encode() + b"\n\x04" + public).digest()[:4]


def consistent(first, second, proof, first_root, second_root):
    """RFC 9162 2.1.4.2, step by step."""
    if first == second:
        return not proof and first_root == second_root
    if first & (first - 1) == 0:
        proof = [first_root, *proof]
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if not proof:
        return False
    fr = sr = proof[0]
    for c in proof[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = _node(c, fr), _node(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = _node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


def _node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()
