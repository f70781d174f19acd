"""Who may use the page: one-time login tokens, sessions in cookies, and checks of Host, Origin and Sec-Fetch-Site.

Nothing here knows HTTP beyond header values, and nothing here does I/O.

A token is made from a secret key and a clock that all processes share. So `sudo gpufan web --url` can make a token for
a page that runs as a service: it only has to read the key of this service. A token can be used once.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from gpufan.system.clock import since_boot_s

KEY_BYTES = 32
TOKEN_S = 600.0
"""A login token of `gpufan web --url` is valid for this time, s."""
SESSION_S = 7 * 86400.0
"""A session ends this long after its login, s."""
SESSIONS = 64
"""At most this many sessions exist. A further login ends the oldest session."""

_TIME_BYTES, _NONCE_BYTES, _SIGNATURE_BYTES = 5, 10, 12
"""The lengths of the parts of a token. Their sum is a multiple of 3, so its base64 text has no unused bits."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers that every answer has. No answer has a header that lets other origins read it."""


def new_login_token(key: bytes, valid_s: float = TOKEN_S, now_s: float | None = None) -> str:
    """Return a token that can be used once, within `valid_s` seconds, at a page that has the same `key`.

    `now_s` is the present time, in seconds since boot; None reads the clock.
    """
    end_s = int((since_boot_s() if now_s is None else now_s) + valid_s)
    payload = end_s.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_NONCE_BYTES)
    return base64.urlsafe_b64encode(payload + _token_signature(key, payload)).decode()


def _token_signature(key: bytes, payload: bytes) -> bytes:
    """Return the signature of the `payload` of a token."""
    return hmac.digest(key, b"gpufan web login\0" + payload, hashlib.sha256)[:_SIGNATURE_BYTES]


class Sessions:
    """The tokens that were used, and the sessions of browsers that have logged in. Any thread may use it."""

    def __init__(
        self, key: bytes, on_login: Callable[[], None] = lambda: None, clock: Callable[[], float] = since_boot_s
    ) -> None:
        """`key` signs the tokens. `on_login` is called after each login. `clock` returns seconds since boot."""
        self._key = key
        self._on_login = on_login
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[bytes, float] = {}
        """Maps each token that was used to the time at which it expires anyway."""
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        """Maps the hash of each session secret to the end of the session."""
        # Cookies do not depend on the port, so the cookies of two tunnels must not have the same name.
        self.cookie_name = f"gpufan-{secrets.token_hex(4)}"

    def login(self, token: str) -> str | None:
        """Return the secret of a new session; None if `token` is wrong, expired or already used."""
        try:
            content = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
        except ValueError:
            return None
        payload, signature = content[:-_SIGNATURE_BYTES], content[-_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _token_signature(self._key, payload)):
            return None
        now_s = self._clock()
        end_s = int.from_bytes(payload[:_TIME_BYTES], "big")
        with self._lock:
            self._used = {used: until_s for used, until_s in self._used.items() if until_s > now_s}
            if now_s >= end_s or payload in self._used:
                return None
            self._used[payload] = end_s
            secret = secrets.token_urlsafe(32)
            self._sessions[_session_hash(secret)] = now_s + SESSION_S
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        self._on_login()
        return secret

    def has_session(self, cookies: str) -> bool:
        """Whether the header `cookies` has the secret of a session that has not ended."""
        now_s = self._clock()
        for pair in cookies.split(";"):
            name, _, value = pair.strip().partition("=")
            if name != self.cookie_name:
                continue
            found = _session_hash(value)
            with self._lock:
                for known, end_s in self._sessions.items():
                    if hmac.compare_digest(known, found):
                        return now_s < end_s
        return False

    def set_cookie(self, secret: str) -> str:
        """Return the header Set-Cookie for the session with this `secret`."""
        return f"{self.cookie_name}={secret}; Path=/; HttpOnly; SameSite=Strict"


def _session_hash(secret: str) -> bytes:
    """Return the hash of a session secret. The memory of the process holds no secret itself."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


class AllowedHosts:
    """The hosts by which a browser may name this page. This prevents DNS rebinding.

    In DNS rebinding, a foreign page gives its own name the address of this machine. Then the browser treats this page
    as a part of the foreign page, but it still sends the foreign name in the header Host.
    """

    def __init__(self, listen_host: str, own_name: str = "") -> None:
        """`listen_host` is the host to listen on; empty for all addresses. `own_name` is the name of this machine."""
        self._names = {*LOCAL_HOSTS, listen_host.lower()} - {""}
        # DNS rebinding needs a name, so every IP address may be allowed where the page listens on all of them.
        self._any_address = listen_host in ("", "0.0.0.0", "::")
        if self._any_address and own_name:
            self._names.add(own_name.lower())

    def allows(self, host_header: str) -> bool:
        """Whether the header Host, a host with or without a port, names this page."""
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s/@]+))(?::[0-9]{1,5})?", host_header)
        if match is None:
            return False
        host = (match[1] or match[2]).lower()
        if host in self._names:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return self._any_address or str(address) in self._names


def refusal(method: str, path: str, headers: Mapping[str, str], hosts: AllowedHosts) -> str:
    """Return why a request is not answered; empty if it may be answered to a browser that has logged in.

    `headers` maps lower-case names to values.
    """
    host = headers.get("host", "")
    if not hosts.allows(host):
        return (
            "this page does not have this name: open it as localhost, through `ssh -L`, or by the address of --listen"
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return "a page of another origin has sent this request"
    if method not in ("GET", "HEAD", "POST"):
        return f"the method {method[:20]} is not known here"
    if method == "POST":
        if origin is None:
            return "a POST request needs the header Origin"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return "a POST request needs the content type application/json"
    site = headers.get("sec-fetch-site", "none")
    # A link on another page may lead here. The browser then opens a page of its own, which no other page can read.
    is_visit = method == "GET" and path == "/" and headers.get("sec-fetch-dest", "") == "document"
    if site not in ("same-origin", "none") and not is_visit:
        return "a page of another site has sent this request"
    return ""
