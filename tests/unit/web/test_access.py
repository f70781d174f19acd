"""Who may use the page: tokens, sessions, hosts and origins."""

import pytest

from gpufan.web.access import SECURITY_HEADERS, SESSIONS, AllowedHosts, Sessions, new_login_token, refusal

KEY = bytes(range(32))


class Clock:
    """Seconds since boot that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(KEY, clock=clock)


def token(clock: Clock, valid_s: float = 60.0, key: bytes = KEY) -> str:
    return new_login_token(key, valid_s, clock())


def test_a_token_counts_once(sessions: Sessions, clock: Clock) -> None:
    link = token(clock)
    assert sessions.login(link)
    assert sessions.login(link) is None


def test_a_token_does_not_count_after_its_time(sessions: Sessions, clock: Clock) -> None:
    link = token(clock, 60)
    clock.now_s += 61
    assert sessions.login(link) is None


def test_a_token_of_another_key_does_not_count(sessions: Sessions, clock: Clock) -> None:
    assert sessions.login(token(clock, key=bytes(32))) is None


@pytest.mark.parametrize("wrong", ["", "=", "é", "A" * 53, "A" * 100_000, "../../etc/passwd", "\x00", "%00", "-_-_"])
def test_text_that_is_no_token_is_refused(sessions: Sessions, wrong: str) -> None:
    assert sessions.login(wrong) is None


def test_no_changed_character_leaves_a_token_valid_twice(sessions: Sessions, clock: Clock) -> None:
    link = token(clock)
    assert sessions.login(link)
    changed = {link[:n] + letter + link[n + 1 :] for n in range(len(link)) for letter in "AQgw-_9z"}
    assert not any(sessions.login(other) for other in changed)
    assert not any(sessions.login(link + padding) for padding in ("=", "==", "===", "A"))


def test_the_cookie_of_a_login_gives_access(sessions: Sessions, clock: Clock) -> None:
    secret = sessions.login(token(clock))
    assert secret is not None
    assert sessions.has_session(f"other=1; {sessions.cookie_name}={secret}")
    assert not sessions.has_session(f"gpufan={secret}")
    assert not sessions.has_session(f"{sessions.cookie_name}={secret[:-1]}")
    assert not sessions.has_session("")


def test_the_cookie_is_hidden_from_scripts_and_from_other_sites(sessions: Sessions) -> None:
    cookie = sessions.set_cookie("x")
    assert cookie.startswith(f"{sessions.cookie_name}=x; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))


def test_two_pages_behind_tunnels_do_not_share_a_cookie() -> None:
    assert Sessions(KEY).cookie_name != Sessions(KEY).cookie_name


def test_a_session_ends_after_a_week(sessions: Sessions, clock: Clock) -> None:
    secret = sessions.login(token(clock))
    clock.now_s += 7 * 86400
    assert not sessions.has_session(f"{sessions.cookie_name}={secret}")


def test_many_logins_end_the_oldest_session(sessions: Sessions, clock: Clock) -> None:
    secrets = [sessions.login(token(clock)) for _ in range(SESSIONS + 1)]
    has = [sessions.has_session(f"{sessions.cookie_name}={secret}") for secret in secrets]
    assert has == [False] + [True] * SESSIONS


@pytest.mark.parametrize(
    ("listen", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:10836", True),
        ("127.0.0.1", "localhost:8000", True),  # ssh -L 8000:127.0.0.1:10836
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:10836", True),
        ("127.0.0.1", "evil.example:10836", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "evil.example@127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1:80:90", False),
        ("127.0.0.1", "127.0.0.1:http", False),
        ("127.0.0.1", "192.168.1.5", False),
        ("127.0.0.1", "0.0.0.0:10836", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.1, evil.example", False),
        ("192.168.1.5", "192.168.1.5:10836", True),
        ("192.168.1.5", "192.168.1.6:10836", False),
        ("box.lan", "Box.LAN:10836", True),
        ("box.lan", "evil.example", False),
        ("", "192.168.1.5:10836", True),
        ("", "[fe80::1]", True),
        ("", "evil.example", False),
        ("", "Box", True),
        ("127.0.0.1", "box", False),
        ("0.0.0.0", "10.0.0.1", True),
        ("::", "[2001:db8::1]:1", True),
    ],
)
def test_only_names_of_this_machine_are_allowed_as_host(listen: str, host: str, allowed: bool) -> None:
    assert AllowedHosts(listen, "box").allows(host) is allowed


HOST = {"host": "localhost:8000"}
POST = {**HOST, "origin": "http://localhost:8000", "content-type": "application/json"}
VISIT = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "refused"),
    [
        ("GET", "/", HOST, False),
        ("HEAD", "/api/box", HOST, False),
        ("GET", "/api/box", {**HOST, "sec-fetch-site": "same-origin"}, False),
        ("GET", "/", {**HOST, "sec-fetch-site": "none", **VISIT}, False),
        ("GET", "/", {**HOST, "sec-fetch-site": "cross-site", **VISIT}, False),
        ("GET", "/", {**HOST, "sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, True),
        ("GET", "/api/box", {**HOST, "sec-fetch-site": "cross-site", **VISIT}, True),
        ("GET", "/api/box", {**HOST, "sec-fetch-site": "same-site"}, True),  # another port of localhost
        ("GET", "/api/box", {**HOST, "sec-fetch-site": "same-origin, cross-site"}, True),
        ("GET", "/api/box", {**HOST, "origin": "http://evil.example"}, True),
        ("GET", "/api/box", {**HOST, "origin": "null"}, True),
        ("GET", "/api/box", {"host": "evil.example"}, True),
        ("GET", "/api/box", {}, True),
        ("POST", "/api/apply", POST, False),
        ("POST", "/api/apply", {**POST, "content-type": "application/json; charset=utf-8"}, False),
        ("POST", "/api/apply", {**POST, "content-type": "text/plain"}, True),
        ("POST", "/api/apply", {**POST, "origin": "http://localhost:8001"}, True),
        ("POST", "/api/apply", {**POST, "origin": "https://localhost:8000"}, True),
        ("POST", "/api/apply", {**POST, "origin": "http://localhost:8000, http://localhost:8000"}, True),
        ("POST", "/api/apply", {key: value for key, value in POST.items() if key != "origin"}, True),
        ("POST", "/api/apply", {**POST, "sec-fetch-site": "cross-site"}, True),
        ("PUT", "/api/apply", POST, True),
        ("OPTIONS", "/api/apply", POST, True),
    ],
)
def test_requests_of_other_pages_are_refused(method: str, path: str, headers: dict[str, str], refused: bool) -> None:
    assert bool(refusal(method, path, headers, AllowedHosts("127.0.0.1"))) is refused


def test_the_page_may_have_no_code_and_no_style_but_that_of_its_files() -> None:
    policy = SECURITY_HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
