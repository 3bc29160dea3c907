"""The server behind the page: this machine only, one random token, no other origin.

    GET  /?token=T                           the page
    GET  /api/review                         what there is to review, and how far it is
    GET  /api/items/NAME/image               PNG
    GET  /api/items/NAME/mask                uint8 [P, H, W], flat; what is decided in the headers
    GET  /api/items/NAME/predicted           the same, as the networks predict it
    GET  /api/items/NAME/inconsistency       uint8 [H, W], flat
    POST /api/items/NAME?base=V&state=S      saves; the body is the mask, or empty where it stays

All under /api/ want the token in the header X-Token. A page of another site can neither read nor
guess it, and a browser does not send such a header across origins unasked; a name that was made to
point at this machine (DNS rebinding) fails by its Host.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from math import prod
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np

from imasks.data.decisions import STATES, Decision, Stale, State
from imasks.data.files import Bytes
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.review.session import Item, Outdated, Session, tag
from imasks.runs.colors import class_colors

ADDRESS = "127.0.0.1"
JSON, RAW, HTML, PNG = (
    "application/json",
    "application/octet-stream",
    "text/html; charset=utf-8",
    "image/png",
)
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(Exception):  # noqa: N818
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        message: for a person.
        more: what else the page needs to know.
    """

    def __init__(self, status: HTTPStatus, message: str, **more: object) -> None:
        self.status = status
        self.content = {"message": message, **more}
        super().__init__(message)


class Server(ThreadingHTTPServer):
    """Serves one session until it is stopped.

    Args:
        session: what is reviewed.
        port: to listen at; 0: any that is free.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.session = session
        planes = session.task.planes
        self.largest = max(planes * item.height * item.width for item in session.items)
        self.token = secrets.token_urlsafe(24)
        # no foreign site can be called by these names
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        """What a person opens."""
        return f"http://{ADDRESS}:{self.server_port}/?token={self.token}"


def serve(session: Session, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve until the user interrupts.

    Args:
        session: what is reviewed.
        port: to listen at; 0: any that is free.
        ready: called with the address once it can be opened.

    Raises:
        UserError: the port cannot be used.
    """
    try:
        server = Server(session, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"port {port} cannot be listened at",
            value=error,
            remedy="Give another --port, or 0 for any that is free.",
        ) from error
    with server:
        ready(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "imasks", ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Save a decision."""
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to the command."""

    def _answer(self, action: Any) -> None:
        try:
            parts, query = _asked(self.path)
            body = self._body()  # read whatever comes of it, or it would begin the next request
            self._check(query, page=parts == [""])
            action(parts, query, body)
        except Refused as refused:
            self._send(JSON, json.dumps(refused.content).encode(), status=refused.status)
        except (UserError, OSError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                self.close_connection = True  # the page is gone
                return
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._send(JSON, json.dumps({"message": str(error)}).encode(), status=status)

    def _body(self) -> bytes:
        length = _whole(self.headers.get("Content-Length", "0"))
        if length is None or length > self.server.largest or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(HTTPStatus.BAD_REQUEST, "No mask is so large.")
        body = self.rfile.read(length)
        if len(body) != length:
            raise ConnectionError("the page left while it sent a mask")
        return body

    def _check(self, query: dict[str, str], *, page: bool) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            known = " or ".join(sorted(self.server.hosts))
            raise Refused(HTTPStatus.FORBIDDEN, f"This server is called {known} only.")
        origin = self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "none")
        foreign = not page and site not in ("same-origin", "none")
        if foreign or origin not in (None, f"http://{hosts[0]}"):
            raise Refused(HTTPStatus.FORBIDDEN, "Pages of other sites are not answered.")
        given = query.get("token", "") if page else self.headers.get("X-Token", "")
        if not secrets.compare_digest(given.encode(), self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "The token is missing or old. Open the address that `imasks review` shows now.",
            )

    def _get(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        session = self.server.session
        match parts:
            case [""]:
                nonce = secrets.token_urlsafe(16)
                page = _page().replace("{{nonce}}", nonce).encode()
                self._send(HTML, page, Content_Security_Policy=POLICY.format(nonce))
            case ["api", "review"]:
                self._send(JSON, json.dumps(_overview(session)).encode())
            case ["api", "items", name, "image"]:
                self._send(PNG, session.picture(self._item(name)))
            case ["api", "items", name, "mask"]:
                decision, labels = session.shown(self._item(name))
                about = {**_about(decision), "tag": tag(labels)}
                self._send(RAW, labels.tobytes(), X_About=json.dumps(about))
            case ["api", "items", name, "predicted"]:
                self._send(RAW, session.predicted(self._item(name)).tobytes())
            case ["api", "items", name, "inconsistency"]:
                self._send(RAW, session.inconsistency(self._item(name)).tobytes())
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _post(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        match parts:
            case ["api", "items", name]:
                item = self._item(name)
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")
        labels = self._labels(item, body)
        state: State | None = next((s for s in STATES if s == query.get("state")), None)
        base = _whole(query.get("base", ""))
        if state != query.get("state") or base is None:
            raise Refused(HTTPStatus.BAD_REQUEST, "The request cannot be understood.")
        session = self.server.session
        try:
            decision = session.save(
                item, base=base, state=state, labels=labels, seen=query.get("seen")
            )
        except Stale as stale:
            message = f"{name} was changed elsewhere."
            raise Refused(HTTPStatus.CONFLICT, message, there=_about(stale.there)) from None
        except Outdated:
            message = f"The mask of {name} is not the one that you saw."
            there = _about(session.decision(item))
            raise Refused(HTTPStatus.CONFLICT, message, there=there) from None
        about = _about(decision)
        if labels is not None:
            about["tag"] = tag(labels)
        self._send(JSON, json.dumps(about).encode())

    def _item(self, name: str) -> Item:
        item = self.server.session.by_name.get(name)
        if item is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is no image called {name}.")
        return item

    def _labels(self, item: Item, body: bytes) -> Bytes | None:
        """Check the mask in a request, uint8 [P, H, W]; None if there is none."""
        session = self.server.session
        shape = (session.task.planes, item.height, item.width)
        if not body:
            return None
        if len(body) != prod(shape):
            raise Refused(HTTPStatus.BAD_REQUEST, f"A mask must be {prod(shape)} bytes.")
        labels = np.frombuffer(body, np.uint8).reshape(shape)
        multiclass = session.task.name == "multiclass"
        least, most = (1, len(session.task.classes)) if multiclass else (0, 1)
        fine = (labels >= least) & (labels <= most)
        if session.decisions.card.ignore is not None:
            fine |= labels == IGNORE
        if not fine.all():
            raise Refused(HTTPStatus.BAD_REQUEST, "The mask holds values that no class has.")
        return labels

    def _send(
        self, kind: str, body: bytes, *, status: HTTPStatus = HTTPStatus.OK, **more: str
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close" if self.close_connection else "keep-alive",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _asked(path: str) -> tuple[list[str], dict[str, str]]:
    """Take a path apart: its parts and what follows the question mark."""
    try:
        url = urlsplit(path)
        query = parse_qs(url.query)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "The request cannot be understood.") from error
    parts = [unquote(part) for part in url.path.split("/")[1:]]
    return parts, {key: values[-1] for key, values in query.items()}


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 16 else None


@cache
def _page() -> str:
    return resources.files("imasks.review").joinpath("page.html").read_text(encoding="utf-8")


def _overview(session: Session) -> dict[str, object]:
    decided = session.decisions.read_all()
    colors = class_colors(session.task, session.colors)
    return {
        "run": session.folder.resolve().parent.name,
        "model": str(session.chosen),
        "score": session.task.primary,
        "task": session.task.name,
        "classes": list(session.task.classes),
        "colors": colors.tolist(),
        "void": session.decisions.card.ignore is not None,
        "items": [
            {
                "url": quote(item.name, safe=""),
                "name": item.name,
                "height": item.height,
                "width": item.width,
                "im_share": item.im_share,
                "quality": item.quality,
                "state": decided[item.name].state if item.name in decided else None,
            }
            for item in session.items
        ],
    }


def _about(decision: Decision) -> dict[str, object]:
    """What the page knows of a decision; ASCII, as it may travel in a header."""
    wanted = ("version", "state", "changed", "time")
    return {key: value for key, value in asdict(decision).items() if key in wanted}
