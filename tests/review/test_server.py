import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from imasks.errors import UserError
from imasks.review.server import Server, serve


class Client:
    """Asks as the page does; every header can be given otherwise, None leaves it out."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.token = parse_qs(parts.query)["token"][0]

    def ask(self, path, *, method="GET", body=None, **headers):
        given = {"Host": f"{self.host}:{self.port}", "X-Token": self.token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if method == "POST":
            given.setdefault("Content-Length", str(len(body or b"")))
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def json(self, path, **more):
        status, _, content = self.ask(path, **more)
        return status, json.loads(content)

    def save(self, name, *, base=0, body=None, **query):
        words = "&".join(f"{key}={value}" for key, value in {"base": base, **query}.items())
        return self.json(f"/api/items/{name}?{words}", method="POST", body=body)

    def mask(self, name):
        _, headers, content = self.ask(f"/api/items/{name}/mask")
        return json.loads(headers["X-About"]), np.frombuffer(content, np.uint8)


@pytest.fixture
def client(server):
    return Client(server.url)


@pytest.fixture
def name(session):
    return session.items[0].name


def test_it_listens_to_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    with socket.socket() as probe:  # another address of the same machine
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.2", server.server_port)) != 0


def test_the_page_wants_the_token_and_allows_no_foreign_code(server, client):
    page = f"/?token={client.token}"
    status, headers, content = client.ask(page, X_Token=None, Sec_Fetch_Site="none")
    assert status == 200
    (nonce,) = re.findall(r"script-src 'nonce-([^']+)'", headers["Content-Security-Policy"])
    assert content.count(f'nonce="{nonce}"'.encode()) == 2
    assert b"{{nonce}}" not in content
    assert b"http://" not in content
    assert b"https://" not in content
    assert headers["Cache-Control"] == "no-store"
    for wrong in ("/", "/?token=", f"/?token={client.token}x"):
        assert client.ask(wrong)[0] == 403
    with Server(server.session) as other:
        assert other.token != client.token


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Token": None},
        {"X_Token": "guess"},
        {"X_Token": "gu\u00e9ss"},
        {"Host": None},
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:PORT"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},  # another port of this machine
    ],
)
def test_strangers_are_refused(client, session, name, headers):
    given = {
        key: value and value.replace("PORT", str(client.port)) for key, value in headers.items()
    }
    for path in ("/api/review", f"/api/items/{name}/mask"):
        assert client.ask(path, **given)[0] == 403
    status, _, _ = client.ask(
        f"/api/items/{name}?base=0&state=rejected", method="POST", body=b"", **given
    )
    assert status == 403
    assert session.decision(session.items[0]).version == 0


def test_the_same_origin_is_answered(client):
    for host in ("127.0.0.1", "localhost"):
        here = f"{host}:{client.port}"
        more = {"Host": here, "Origin": f"http://{here}", "Sec_Fetch_Site": "same-origin"}
        assert client.ask("/api/review", **more)[0] == 200
    assert client.ask("/api/review", method="OPTIONS")[0] == 501  # no other origin is let in


def test_what_there_is_to_review(client, session, name):
    status, found = client.json("/api/review")
    assert status == 200
    assert [item["name"] for item in found["items"]] == [item.name for item in session.items]
    assert (found["task"], found["classes"], found["void"]) == ("binary", ["cell"], False)
    assert found["items"][0]["state"] is None
    about, mask = client.mask(name)
    assert (about["version"], about["state"]) == (0, None)
    np.testing.assert_array_equal(mask, session.predicted(session.items[0]).ravel())
    assert client.ask(f"/api/items/{name}/predicted")[2] == mask.tobytes()
    im = client.ask(f"/api/items/{name}/inconsistency")[2]
    assert im == session.inconsistency(session.items[0]).tobytes()
    _, headers, picture = client.ask(f"/api/items/{name}/image")
    assert headers["Content-Type"] == "image/png"
    assert picture.startswith(b"\x89PNG")


def test_saving_and_what_is_shown_afterwards(client, session, name):
    about, mask = client.mask(name)
    changed = mask.copy()
    changed[:3] ^= 1
    status, saved = client.save(name, body=changed.tobytes())
    assert (status, saved["version"], saved["state"], saved["changed"]) == (200, 1, None, 3)
    status, _ = client.save(name, base=1, state="accepted", seen=about["tag"])
    assert status == 409  # that was the mask before
    status, saved = client.save(name, base=1, state="accepted", seen=saved["tag"])
    assert (status, saved["version"], saved["state"]) == (200, 2, "accepted")
    np.testing.assert_array_equal(client.mask(name)[1], changed)
    _, found = client.json("/api/review")
    assert found["items"][0]["state"] == "accepted"
    assert session.decision(session.items[0]).changed == 3


def test_a_second_tab_with_an_old_version_is_refused_and_told(client, name):
    assert client.save(name, state="rejected")[0] == 200
    status, found = client.save(name, state="to_label")
    assert status == 409
    assert found["there"]["state"] == "rejected"
    assert found["there"]["version"] == 1
    assert client.save(name, base=found["there"]["version"], state="to_label")[0] == 200


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({"state": "perhaps"}, b""),
        ({"base": "x"}, b""),
        ({"base": "-1"}, b""),
        ({"base": "9" * 5000}, b""),
        ({"state": "accepted"}, bytes(31 * 32)),
        ({"state": "accepted"}, bytes(33 * 32)),
        ({"state": "accepted"}, bytes([2]) * (32 * 32)),
        ({"state": "accepted"}, bytes([255]) * (32 * 32)),  # this data set ignores no pixels
    ],
)
def test_requests_that_make_no_sense_change_nothing(client, session, name, query, body):
    assert client.save(name, body=body, **query)[0] == 400
    assert session.decision(session.items[0]).version == 0


def test_a_refused_mask_does_not_begin_the_next_request(client):
    connection = http.client.HTTPConnection(client.host, client.port, timeout=30)
    for token, status in (("wrong", 403), (client.token, 404)):
        connection.request("POST", "/api/review", bytes(500), {"X-Token": token})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.request("GET", "/api/review", headers={"X-Token": client.token})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    connection.close()


def test_paths_that_make_no_sense_are_refused(client):
    assert client.ask("http://[/api/review")[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/favicon.ico",
        "/api/items/nothing/mask",
        "/api/items/..%2F..%2Frun.toml/mask",
        "/api/items//mask",
        "/../run.toml",
    ],
)
def test_there_is_nothing_else(client, path):
    assert client.ask(path)[0] == 404


def test_what_is_broken_on_the_disk_is_told(client, session, name):
    (session.folder / "decisions" / f"{name}.json").write_text("{")
    status, found = client.json(f"/api/items/{name}/mask")
    assert status == 500
    assert f"{name}.json cannot be read" in found["message"]


def test_a_port_in_use_is_named(server, session):
    with pytest.raises(UserError, match=f"port {server.server_port} cannot be listened at"):
        serve(session, port=server.server_port, ready=lambda url: None)


@pytest.mark.slow
def test_a_kill_between_requests_loses_nothing(run, session):
    def start():
        command = [sys.executable, "-m", "imasks", "review", str(run.folder)]
        command += ["--device", "cpu"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        for line in process.stdout:
            if line.startswith("Open "):
                return process, Client(line.split()[1])
        raise AssertionError("no address was printed")

    first, second = (item.name for item in session.items[:2])
    process, client = start()
    with process:
        _, mask = client.mask(first)
        assert client.save(first, state="accepted", body=(mask ^ 1).tobytes())[0] == 200
        assert client.save(second, state="rejected")[0] == 200
        process.send_signal(signal.SIGKILL)
    old_token = client.token
    process, client = start()
    with process:
        try:
            assert client.token != old_token
            about, found = client.mask(first)
            assert (about["version"], about["state"]) == (1, "accepted")
            np.testing.assert_array_equal(found, mask ^ 1)
            assert client.mask(second)[0]["state"] == "rejected"
            assert client.save(second, base=1, state="to_label")[0] == 200
        finally:
            process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert "1 accepted, 0 rejected, 1 to label, 4 open" in rest
    assert "Next: imasks train" in rest
    assert process.returncode == 0
