"""Attacks on the page over real sockets: foreign pages, stolen links, slow and many clients, wrong paths and bodies."""

import re
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from tests.integration.web.page import Answer, Page, received, running_page

HOSTS = ["evil.example", "evil.example:10836", "localhost.evil.example", "192.168.7.7", "127.0.0.1.nip.io", "[::2]"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_rebound_name_gets_nothing(page: Page, host: str) -> None:
    for path in ("/", "/api/box", f"/?token={page.token}", "/static/app.js"):
        assert page.get(path, host=host).status == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:1", "[::1]:10836", "localhost"])
def test_a_tunnel_with_another_port_works(page: Page, host: str) -> None:
    assert page.get("/api/box", host=host).status == 200
    assert page.post("/api/text", {"target_c": 75}, host=host, origin=f"http://{host}").status == 200


def test_a_request_without_host_or_with_two_is_refused(page: Page) -> None:
    for head in ("GET /api/box HTTP/1.0\r\n", f"GET / HTTP/1.1\r\nhost: {page.host}\r\nhost: {page.host}\r\n"):
        answer = page.raw(f"{head}cookie: {page.cookie}\r\n\r\n".encode())
        assert Answer(answer).status in (400, 403)


ORIGINS = ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "http://localhost", "file://"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_foreign_origin_can_neither_read_nor_change(page: Page, origin: str) -> None:
    for path in ("/api/apply", "/api/diff", "/api/undo", "/api/text"):
        answer = page.post(path, {"target_c": 75}, origin=origin)
        assert (answer.status, set(answer.headers) & CORS) == (403, set())
    assert page.get("/api/box", origin=origin).status == 403


CORS = {"access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods"}


def test_no_form_and_no_preflight_of_another_page_is_accepted(page: Page) -> None:
    assert page.post("/api/diff", {"target_c": 75}, content_type="text/plain").status == 403
    assert page.post("/api/diff", {"target_c": 75}, origin="").status == 403
    preflight = page.request("OPTIONS", "/api/diff", access_control_request_method="POST")
    assert (preflight.status, set(preflight.headers) & CORS) == (403, set())


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_can_open_the_page_but_not_use_it(page: Page, site: str) -> None:
    visit = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert page.get("/", **visit).status == 200
    assert page.get("/", **{**visit, "sec_fetch_dest": "iframe"}).status == 403
    assert page.get("/api/box", **visit).status == 403
    assert page.get("/static/plotly.min.js", **{**visit, "sec_fetch_dest": "script"}).status == 403


def test_a_link_counts_once(page: Page) -> None:
    answer = page.get(f"/?token={page.token}", cookie="")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers
    assert b"gpufan web" in answer.body


def test_a_browser_that_has_logged_in_gets_the_page_by_any_link(page: Page) -> None:
    answer = page.get(f"/?token={page.token}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/api/box", "/api/events", "/api/settings", "/static/app.js", "/nothing"])
def test_nothing_is_shown_without_the_cookie(page: Page, path: str) -> None:
    for cookie in ("", f"{page.cookie}x", page.cookie.replace("=", "=x"), "=", ";;;", "gpufan=1"):
        answer = page.get(path, cookie=cookie)
        assert answer.status == 403
        assert b"GPU" not in answer.body


def test_every_answer_has_the_security_headers(page: Page) -> None:
    for answer in (page.get("/"), page.get("/api/box"), page.get("/nothing"), page.get("/", host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert not re.search(r"script-src[^;]*(unsafe|http|\*)", policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not set(answer.headers) & CORS
    assert page.get("/api/box").headers["cache-control"] == "no-store"


PATHS = [
    "/static/../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/static/%2fetc%2fpasswd",
    "/static//etc/passwd",
    "/static/app.js%00.css",
    "/static/..\\..\\app.js",
    "/static/.",
    "/static/",
    "/static/x/../app.js",
    "/static/index.html",
    "/../templates/web/app.js",
    "//etc/passwd",
    "/api/../static/../../gpufan/__init__.py",
    "http://evil.example/static/app.js",
    "/static/0000000000000000/app.js",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_files_of_the_page(page: Page, path: str) -> None:
    answer = page.get(path)
    assert answer.status in (400, 403, 404)
    assert b"root:" not in answer.body


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"target_c":75,"extra":1}',
    b'{"target_c":75,"curve":[[50,30]]}',
    b'{"target_c":"75"}',
    b'{"target_c":1e999}',
    b'{"target_c":NaN}',
    b'{"target_c":10}',
    b'{"curve":[]}',
    b'{"curve":[[50,null]]}',
    b'{"curve":[[50,30],[40,50]]}',
    b'{"curve":[[50,60],[60,50]]}',
    b'{"curve":[[50,30,1]]}',
    b'{"target_c":75,"cards":["*"]}',
    b'{"target_c":75,"cards":["GPU-1\\u0022]\\n[x]"]}',
    b'{"target_c":75,"max_duty_percent":0}',
    b'{"target_c":75,"quiet":[{"from":"25:00","to":"07:00","max_duty_percent":50}]}',
    b'{"target_c":75,"quiet":[{"from":"22:00","to":"22:00","max_duty_percent":50}]}',
    b'{"target_c":75,"quiet":[{"from":"22:00","to":"07:00"}]}',
    b'{"target_c":75,"quiet":[{"from":"22:00","to":"07:00","days":["someday"],"max_duty_percent":50}]}',
    b'{"target_c":75,"quiet":[{"from":"22:00","to":"07:00","max_duty_percent":50,"run":"x"}]}',
    b'{"a":' * 5000,
    b"[" * 60000,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].decode("latin-1"))
def test_a_wrong_body_is_refused_in_one_line(page: Page, body: bytes) -> None:
    for path in ("/api/text", "/api/diff"):
        answer = page.request("POST", path, body)
        assert answer.status == 400
        assert "\n" not in answer.json()["error"]
    for path in ("/api/apply", "/api/undo"):
        assert page.request("POST", path, body).status == 400


def test_a_large_body_is_refused_before_it_is_received(page: Page) -> None:
    head = f"POST /api/diff HTTP/1.1\r\nhost: {page.host}\r\norigin: http://{page.host}\r\ncookie: {page.cookie}\r\n"
    head += "content-type: application/json\r\n"
    with page.connect() as connection:
        connection.sendall(f"{head}content-length: 9999999999\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with page.connect() as connection:
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        connection.sendall(piece * 3)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_long_header_is_refused(page: Page) -> None:
    data = b"GET / HTTP/1.1\r\nhost: " + page.host.encode() + b"\r\n" + b"x: y\r\n" * 20000
    with page.connect() as connection:
        with suppress(OSError):
            connection.sendall(data)
        assert not received(connection).startswith(b"HTTP/1.1 200")
    assert page.get("/api/box").status == 200


def test_other_protocols_get_no_answer_of_the_application(page: Page) -> None:
    upgrade = {"upgrade": "websocket", "sec_websocket_key": "x", "sec_websocket_version": "13"}
    assert page.get("/api/events2", **{**upgrade, "connection": "upgrade, close"}).status in (400, 404)
    assert not page.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").startswith(b"HTTP/1.1 200")
    assert not page.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_a_client_that_sends_its_header_slowly_is_cut_off(page: Page) -> None:
    start_s = time.monotonic()
    with page.connect(20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        ends = threading.Event()

        def drip() -> None:
            while not ends.wait(0.5):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert received(connection) == b""
        ends.set()
        dripping.join()
    assert time.monotonic() - start_s < 10


@pytest.mark.slow
def test_a_client_that_sends_its_body_slowly_is_cut_off(page: Page) -> None:
    start_s = time.monotonic()
    head = f"POST /api/diff HTTP/1.1\r\nhost: {page.host}\r\norigin: http://{page.host}\r\ncookie: {page.cookie}\r\n"
    with page.connect(20) as connection:
        connection.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
        received(connection)
    assert time.monotonic() - start_s < 10


def is_closed(connection: socket.socket) -> bool:
    """Whether the page has closed the connection."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_two_hundred_connections_do_not_keep_a_logged_in_browser_out(page: Page) -> None:
    connections = []
    with ExitStack() as stack, page.events() as stream:
        stream.next()
        for number in range(200):
            connection = stack.enter_context(page.connect())
            connections.append(connection)
            connection.sendall((b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")[number % 3])
        start_s = time.monotonic()
        assert page.get("/api/box").status == 200
        assert page.post("/api/text", {"target_c": 75}).status == 200
        assert time.monotonic() - start_s < 3
        assert sum(map(is_closed, connections)) >= 100
        stream.next()
        stream.next()


def test_pages_without_number_do_not_keep_others_out(page: Page) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(page.events()) for _ in range(40)]
        answers = [stream.connection.recv(15) for stream in streams]
        assert answers.count(b"HTTP/1.1 200 OK") == 32
        assert answers.count(b"HTTP/1.1 503 Se") == 8
    deadline_s = time.monotonic() + 5
    while True:
        with page.events() as stream:
            if stream.connection.recv(15) == b"HTTP/1.1 200 OK":
                break
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.mark.slow
def test_a_client_that_does_not_receive_its_answer_is_cut_off(page: Page) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", page.port))
    head = f"GET /static/plotly.min.js HTTP/1.1\r\nhost: {page.host}\r\ncookie: {page.cookie}\r\n\r\n"
    with connection:
        connection.sendall(head.encode())
        time.sleep(12)
        assert len(received(connection)) < 4_000_000


@pytest.mark.slow
def test_ctrl_c_ends_the_page_while_browsers_watch() -> None:
    with running_page("--simulate") as page, page.events() as stream, page.connect() as idle:
        stream.next()
        idle.sendall(b"GET /")
        page.end()
        assert page.process.returncode == 0
