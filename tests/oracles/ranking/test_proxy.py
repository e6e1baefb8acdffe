"""The set-up that docs/ranking.md describes: nginx with TLS before a study, and a browser that comes through it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking import HumanRanking
from tests.oracles.helpers import free_port, wait_for
from tests.oracles.ranking.people import Person, rows, study
from tests.requires import require

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
require("nginx", NGINX and shutil.which("openssl"), "apt-get install nginx-light openssl")
require("chromium", find_spec("playwright"), "pip install playwright")
require("chromium", CHROMIUM, "apt install chromium")
playwright = import_module("playwright.sync_api")

DOCS = Path(__file__).parents[3] / "docs" / "ranking.md"
URL = "https://study.example.org/colours"

MAIN = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{server} }}
"""


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=study.example.org -keyout key -out crt"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


class Proxy:
    """nginx, as the guide configures it, but for its port and files."""

    def __init__(self, folder: Path, certificate: Path, backend: int, *changes: tuple[str, str]) -> None:
        self.ends = ExitStack()
        self.port = self.ends.enter_context(free_port())
        found = re.search(r"```nginx\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
        assert found is not None
        server = found.group(1)
        known = [("listen 443", f"listen 127.0.0.1:{self.port}"), ("/etc/ssl/study.crt", str(certificate / "crt"))]
        known += [
            ("/etc/ssl/study.key", str(certificate / "key")),
            ("127.0.0.1:8000", f"127.0.0.1:{backend}"),
            *changes,
        ]
        for before, after in known:
            assert before in server
            server = server.replace(before, after)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, server=server))
        self.process = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
        wait_for(lambda: listens(self.port))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *args: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.ends.close()


@pytest.fixture
def visit() -> Iterator[Any]:
    """A browser for which study.example.org, on the standard port, is the proxy."""
    with playwright.sync_playwright() as started:
        try:
            browsers = []

            def open_at(port: int) -> Any:
                rule = f"--host-resolver-rules=MAP study.example.org 127.0.0.1:{port}"
                browsers.append(started.chromium.launch(executable_path=CHROMIUM, args=[rule, "--no-sandbox"]))
                return browsers[-1].new_context(ignore_https_errors=True)

            yield open_at
        finally:
            for browser in browsers:
                browser.close()


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("127.0.0.1:8000;", "127.0.0.1:8000/;"),),  # the proxy takes the path off
        (("proxy_pass", "proxy_set_header Host $host; proxy_pass"),),  # it passes on the name
    ],
)
def test_people_come_through_a_proxy_with_tls(
    tmp_path: Path, certificate: Path, visit: Any, changes: tuple[tuple[str, str], ...]
) -> None:
    with study(tmp_path / "s.db", 1, render=lambda x: "<p>html</p>", n_ranked=1, public_url=URL) as (oracle, search, _):
        backend = oracle.server.host.port
        changes = tuple((a, b.replace("8000", str(backend))) for a, b in changes)
        ports = tuple((a.replace("8000", str(backend)), b) for a, b in changes)
        with Proxy(tmp_path, certificate, backend, *ports) as proxy:
            link = oracle.invite("Ann")
            assert link.startswith(f"{URL}/join/")
            context = visit(proxy.port)
            page = context.new_page()
            failed: list[str] = []
            page.on(
                "response", lambda reply: failed.append(f"{reply.status} {reply.url}") if reply.status > 399 else None
            )
            page.goto(link)
            page.get_by_role("button", name="Begin").click()
            page.wait_for_url(f"{URL}/")
            (cookie,) = context.cookies()
            assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
            assert cookie["path"] == "/colours/"
            assert page.frame_locator("iframe").first.locator("p").text_content() == "html"
            page.locator(".pick").first.click()
            page.get_by_role("button", name="Submit").click()
            wait_for(lambda: search.moves == 1)
            page.close()
            assert not failed and [row.kind for row in rows(oracle.store)] == ["rank", "close"]


def test_the_page_is_found_without_its_last_slash_and_on_this_machine(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, n_ranked=1, public_url=URL) as (oracle, _, _):
        person = Person(
            f"{oracle.server.site.local}/join/{oracle.invite('Ann').rsplit('/', 1)[1]}"
        )  # without the proxy
        moved = person.request("GET", "/colours")
        assert (moved.status, moved.headers["location"]) == (308, "/colours/")
        assert person.request("GET", "/colours/", Host="study.example.org").status == 200
        for origin, status in (("https://study.example.org", 422), ("https://study.example.org:8443", 403)):
            assert person.post("/api/undo", {}, Host="study.example.org", Origin=origin).status == status
        assert person.request("GET", "/", Host="study.example.org:8000").status == 403
        person.rank(lambda text: 0.0, 1)


@pytest.mark.parametrize(
    "url", ["study.example.org", "ftp://a.b", "https://", "https://a.b/?q=1", "https://u:p@a.b", "https://a.b:x"]
)
def test_a_public_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        HumanRanking(str, tmp_path / "s.db", public_url=url)
    assert not (tmp_path / "s.db").exists()
