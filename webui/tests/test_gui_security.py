# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers, cookies, CSRF, limits, and what a hostile form gets."""

import re
from pathlib import Path

import pytest
from gui_browser import Browser

from webui import create_app
from webui.settings import NoKey, session_key

PAGES = [
    "/",
    "/farms",
    "/farms/new",
    "/snapshots",
    "/snapshots/1",
    "/snapshots/1/rollback",
    "/system",
    "/system/links/eth0",
    "/account",
    "/nothing",
]


@pytest.mark.parametrize("path", [*PAGES, "/login", "/static/css/sluice.css"])
def test_every_answer_bears_the_security_headers(browser, path):
    with browser.raw("GET", path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    if not path.startswith("/static"):
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_inline_scripts_or_styles(browser, path):
    page = browser.open(path)
    for node in page.walk():
        assert "style" not in node.attributes, node
        assert not any(name.startswith(("on", "hx-on")) for name in node.attributes), node
        assert node.tag != "style"
        if node.tag == "script":
            assert node.attributes["src"].startswith("/static/")
            assert not node.text


@pytest.mark.parametrize("path", PAGES)
def test_every_form_bears_the_token_and_every_field_a_label(browser, path):
    page = browser.open(path)
    labelled = {node.attributes.get("for") for node in page.all("label")}
    inside = {id(node) for label in page.all("label") for node in label.walk()}
    for form in page.all("form"):
        if form.attributes.get("method") == "post":
            assert form.all("input", name="csrf"), path
        for node in form.walk():
            visible = node.tag in ("input", "select", "textarea") and node.attributes.get("type") != "hidden"
            assert not visible or node.attributes.get("id") in labelled or id(node) in inside, node


def test_cookies_are_for_this_host_and_for_the_server_only(stranger):
    answer = stranger.raw("GET", "/login")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-sluice=")
    for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    "path",
    ["/farms/new", "/farms/x/delete", "/farms/x/trace", "/snapshots/1/rollback", "/account", "/logout", "/theme"],
)
@pytest.mark.parametrize("token", [None, "", "guess", "gu\u00eass"])
def test_a_form_without_the_right_token_changes_nothing(browser, shared_agent, path, token):
    client = shared_agent.client()
    if "x" not in client.farms().farms:
        client.put_farm("x", {"addresses": ["192.0.2.200"], "ports": [80]})
    before = client.farms().snapshot
    values = {"name": "csrf", "addresses": "192.0.2.201", "ports": "80", "theme": "dark", "action": "save"}
    browser.post(path, values | ({} if token is None else {"csrf": token}))
    assert browser.status == 400
    assert client.farms().snapshot == before
    browser.open("/snapshots/1")
    assert browser.path == "/snapshots/1", "still logged in"


def test_the_token_of_another_browser_is_no_good(app, granted):
    mine, theirs = Browser(app), Browser(app)
    for browser in (mine, theirs):
        browser.resume(granted)
        browser.open("/snapshots/1")
    csrf = theirs.csrf()
    mine.post("/logout", {"csrf": csrf})
    assert mine.status == 400


def test_the_token_never_looks_the_same_and_is_always_good(browser):
    first = browser.csrf()
    browser.open("/snapshots/1")
    second = browser.csrf()
    assert first != second
    for token in (first, second, first):
        assert browser.raw("POST", "/theme", data={"csrf": token, "theme": "light"}).status_code == 303
    for token in (first[:-2] + ("00" if first[-2:] != "00" else "11"), first[:48], first + "00", "0" * 96):
        assert browser.raw("POST", "/theme", data={"csrf": token, "theme": "light"}).status_code == 400


def test_a_form_from_another_site_is_refused_even_with_the_token(browser):
    csrf = browser.csrf()
    browser.post("/logout", {"csrf": csrf}, Sec_Fetch_Site="cross-site")
    assert browser.status == 403
    browser.open("/")
    assert browser.path == "/"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/farms/..%2f..%2fsystem", 404),
        ("GET", "/farms/UPPER", 404),
        ("GET", "/farms/%00", 404),
        ("GET", "/farms/missing", 404),
        ("GET", "/farms/missing/edit", 404),
        ("GET", "/farms/missing/live", 404),
        ("GET", "/snapshots/0", 404),
        ("GET", "/snapshots/99999", 404),
        ("GET", "/snapshots/9999999999999999", 404),
        ("GET", "/snapshots/" + "9" * 400, 404),
        ("GET", "/snapshots/\u00b2", 404),
        ("GET", "/snapshots/-1", 404),
        ("GET", "/snapshots?before=x", 404),
        ("GET", "/static/../settings.py", 404),
        ("GET", "/logout", 405),
        ("POST", "/snapshots", 405),
        ("PUT", "/farms/new", 405),
    ],
)
def test_odd_requests_get_a_page_in_the_same_look(browser, method, path, status):
    answer = browser.raw(method, path)
    assert answer.status_code == status
    assert 'class="error-page"' in answer.text
    assert "Traceback" not in answer.text


def test_a_huge_form_is_refused(browser):
    answer = browser.raw("POST", "/farms/new", data={"name": "x" * (256 * 1024 + 1)})
    assert answer.status_code == 413
    assert 'class="error-page"' in answer.text


@pytest.mark.parametrize(
    "key",
    [
        "backends-\u00b2-name",
        "backends-" + "9" * 5000 + "-name",
        "backends--name",
        "checks-0",
        "backends",
        "backends-0",
    ],
)
def test_odd_keys_of_a_form_are_left_out(browser, key):
    csrf = browser.csrf()
    browser.post("/farms/new", {"csrf": csrf, "action": "add-backend", "name": "odd", key: "x"})
    assert browser.status == 200
    assert browser.page.one(id="name").attributes["value"] == "odd"


def test_a_thousand_rows_are_answered(browser):
    csrf = browser.csrf()
    rows = {f"backends-{row}-name": f"b{row}" for row in range(1000)}
    browser.post("/farms/new", {"csrf": csrf, "action": "save", "name": "many", "ports": "80"} | rows)
    assert browser.status == 422
    assert browser.faults()["backends-0-address"]


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{7*7}}", "\u202egnp"]
)
def test_hostile_texts_are_shown_as_text(browser, hostile):
    browser.open("/farms/new")
    page = browser.fill(
        {"name": hostile, "addresses": hostile, "ports": hostile, "backends-0-name": hostile, "comment": hostile},
        press="save",
    )
    assert browser.status == 422
    assert page.one(id="name").attributes["value"] == hostile
    assert page.one(id="addresses").text == " ".join(hostile.split())
    assert page.one(id="comment").attributes["value"] == hostile
    assert not page.all("img")
    assert all("src" in node.attributes for node in page.all("script"))
    page = browser.open(f"/?q={hostile}&status={hostile}&page={hostile}")
    assert browser.status == 200
    assert not page.all("img")


def test_a_comment_is_one_line_of_bounded_length(browser, shared_agent):
    browser.open("/farms/new")
    browser.fill(
        {
            "name": "commented",
            "addresses": "192.0.2.150",
            "ports": "80",
            "comment": "two\r\nlines\x00 <b>" + "x" * 1000,
        },
        press="save",
    )
    assert browser.path == "/farms/commented"
    comment = shared_agent.client().snapshots(limit=1).snapshots[0].comment
    assert comment.startswith("two lines <b>xxx")
    assert len(comment) == 500
    assert "<b>xxx" in browser.open("/snapshots").text


def test_without_a_key_the_gui_does_not_start(tmp_path: Path):
    with pytest.raises(NoKey, match="SLUICE_SESSION_KEY_FILE"):
        session_key({})
    with pytest.raises(NoKey, match="can't be read"):
        session_key({"SLUICE_SESSION_KEY_FILE": str(tmp_path / "none")})
    (tmp_path / "session.key").write_bytes(b"short")
    with pytest.raises(NoKey, match="shorter"):
        session_key({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    (tmp_path / "session.key").write_bytes(b"k" * 44 + b"\n")
    assert session_key({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == b"k" * 44


def test_the_theme_is_kept_in_a_cookie_and_goes_back_to_the_page(browser):
    browser.open("/snapshots?before=5")
    csrf = browser.csrf()
    page = browser.post("/theme", {"csrf": csrf, "theme": "dark", "next": "/snapshots?before=5"})
    assert browser.path == "/snapshots"
    assert page.one("html").attributes["data-theme"] == "dark"
    browser.post("/theme", {"csrf": csrf, "theme": "purple", "next": "/"})
    assert browser.status == 400
    assert browser.open("/").one("html").attributes["data-theme"] == "dark"


def test_static_addresses_change_with_the_file(browser):
    sheets = [node.attributes["href"] for node in browser.open("/farms").all("link", rel="stylesheet")]
    ours = [href for href in sheets if "/vendor/" not in href]
    assert ours
    assert all(re.search(r"\?v=[0-9a-f]{10}$", href) for href in ours)


def test_vendor_files_come_from_the_folder_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "htmx").mkdir()
    (tmp_path / "htmx" / "htmx.min.js").write_text("// htmx")
    monkeypatch.setenv("SLUICE_VENDOR", str(tmp_path))
    client = create_app({"SECRET_KEY": b"k" * 32}).test_client()
    with client.get("/static/vendor/htmx/htmx.min.js", base_url="https://sluice.test") as answer:
        assert answer.text == "// htmx"
    assert client.get("/static/vendor/../conftest.py", base_url="https://sluice.test").status_code == 404
