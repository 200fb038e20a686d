# SPDX-License-Identifier: GPL-2.0-or-later
"""A browser without JavaScript: opens pages, reads them, fills in and sends their forms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

from flask import Flask
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from agent.model.answers import Session

BASE = "https://sluice.test"
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass
class Node:
    """An element."""

    tag: str
    attributes: dict[str, str]
    content: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str = "", **wanted: str) -> list["Node"]:
        """The elements below this one of `tag` and with all of these attributes ("data_farm" is data-farm)."""
        attributes = {key.rstrip("_").replace("_", "-"): value for key, value in wanted.items()}
        return [
            node
            for node in self.walk()
            if tag in ("", node.tag) and all(node.attributes.get(key) == value for key, value in attributes.items())
        ]

    def one(self, tag: str = "", **wanted: str) -> "Node":
        """The only such element."""
        found = self.all(tag, **wanted)
        assert len(found) == 1, f"{len(found)} times {tag} {wanted}"
        return found[0]

    def walk(self) -> Iterator["Node"]:
        """Every element below this one."""
        for part in self.content:
            if isinstance(part, Node):
                yield part
                yield from part.walk()

    @property
    def text(self) -> str:
        """What is read here, with single spaces."""
        words = [part if isinstance(part, str) else part.text for part in self.content]
        return " ".join(" ".join(words).split())

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("document", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>: {names}"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].content.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].content.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].content.append(data)


def parse(html: str) -> Node:
    """A page as elements. Fails on tags that don't match and on ids that stand twice."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    ids = [node.attributes["id"] for node in parser.root.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids)), f"ids twice: {sorted(one for one in set(ids) if ids.count(one) > 1)}"
    return parser.root


class Browser:
    """Keeps cookies and follows redirects. `page` is what it shows, `status` and `headers` came with it."""

    def __init__(self, app: Flask, source: str = "198.51.100.7") -> None:
        self._client = app.test_client()
        self._source = source
        self.page = Node("document", {})
        self.path = ""
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def open(self, path: str, **headers: str) -> Node:
        """Go to `path`."""
        return self._show(self._client.get(path, base_url=BASE, headers=self._headers(headers), follow_redirects=True))

    def post(self, path: str, values: Mapping[str, str | Sequence[str]], **headers: str) -> Node:
        """Send a form that no page offers."""
        data = MultiDict(values)
        answer = self._client.post(
            path, data=data, base_url=BASE, headers=self._headers(headers), follow_redirects=True
        )
        return self._show(answer)

    def raw(self, method: str, path: str, **more: object) -> TestResponse:
        """Any request, answered as it is."""
        return self._client.open(path, method=method, base_url=BASE, **more)

    def cookie(self, name: str) -> str | None:
        """The value of a cookie."""
        found = self._client.get_cookie(name, "sluice.test")
        return found.value if found else None

    def fill(self, values: Mapping[str, str | list[str]], *, press: str = "", form: int = -1) -> Node:
        """Fill in a form of the page (by default the last one in <main>) and send it with the button of this value."""
        node = self.page.one("main").all("form")[form]
        data = fields(node)
        for name, value in values.items():
            assert name in names(node), f"there is no field {name}; there are {sorted(names(node))}"
            data.setlist(name, [value] if isinstance(value, str) else value)
        if press:
            assert node.all("button", value=press), f"there is no button {press}"
            data["action"] = press
        return self.post(node.attributes.get("action") or self.path, data)

    def faults(self) -> dict[str, str]:
        """The faults at fields: by the field's name."""
        found = {}
        for node in self.page.walk():
            identity = node.attributes.get("id", "")
            if identity.endswith("-faults"):
                name = identity.removesuffix("-faults")
                at = self.page.one(id=name)
                if at.tag in ("input", "textarea", "select"):
                    assert at.attributes["aria-invalid"] == "true"
                    assert identity in at.attributes["aria-describedby"]
                found[name] = node.text
        return found

    def log_in(self, password: str) -> Node:
        """Log in as admin."""
        self.open("/login")
        return self.fill({"user": "admin", "password": password})

    def resume(self, granted: Session) -> None:
        """Go on with a session that was begun elsewhere."""
        with self._client.session_transaction(base_url=BASE) as session:
            session.update(token=granted.token, user=granted.user)

    @property
    def token(self) -> str:
        """The agent's token in the session cookie."""
        with self._client.session_transaction(base_url=BASE) as session:
            return str(session["token"])

    def csrf(self) -> str:
        """The token of this browser's forms."""
        if not self.page.content:
            self.open("/snapshots/1")
        return self.page.one(class_="themes").one("input", name="csrf").attributes["value"]

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"X-Real-IP": self._source} | {name.replace("_", "-"): value for name, value in headers.items()}

    def _show(self, answer: TestResponse) -> Node:
        self.status = answer.status_code
        self.headers = answer.headers
        self.path = answer.request.path
        self.page = parse(answer.text) if answer.mimetype == "text/html" else Node("document", {}, [answer.text])
        return self.page


def names(form: Node) -> set[str]:
    """The names of a form's fields."""
    return {node.attributes["name"] for node in form.walk() if "name" in node.attributes}


def fields(form: Node) -> MultiDict[str, str]:
    """What a browser would send of a form that nobody touched."""
    data: MultiDict[str, str] = MultiDict()
    for node in form.walk():
        name = node.attributes.get("name")
        if name is None or node.tag == "button":
            continue
        if node.tag == "textarea":
            data.add(name, "".join(part for part in node.content if isinstance(part, str)).removeprefix("\n"))
        elif node.tag == "select":
            chosen = [one for one in node.all("option") if "selected" in one.attributes] or node.all("option")[:1]
            data.add(name, chosen[0].attributes["value"])
        elif node.attributes.get("type") not in ("checkbox", "radio") or "checked" in node.attributes:
            data.add(name, node.attributes.get("value", ""))
    return data
