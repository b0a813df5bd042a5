"""Export URLs: who may fetch what, and for how long."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from runomics.web.exports import PREFIX, Export, Exports

NOW_MS = 1_764_000_000_000
SHA256 = hashlib.sha256(b"archive").hexdigest()


@pytest.fixture
def now() -> list[int]:
    return [NOW_MS]


@pytest.fixture
def exports(tmp_path: Path, now: list[int]) -> Exports:
    (tmp_path / SHA256).write_bytes(b"archive")
    readmes = {("123456789012", 1000000, None): "# Größe", ("123456789012", 1000000, "v1.0_b"): "# Version"}
    return Exports(
        key=b"k" * 32,
        endpoint=lambda: "http://127.0.0.1:8080",
        archive=lambda sha256: tmp_path / sha256,
        readme=lambda account, workflow_id, version_name: readmes.get((account, workflow_id, version_name)),
        now_ms=lambda: now[0],
    )


def get(exports: Exports, url: str, method: str = "GET") -> Export:
    parts = urlsplit(url)
    return exports.answer(method, parts.path, parts.query.encode())


def test_an_archive_is_fetched_as_a_file(exports: Exports, tmp_path: Path) -> None:
    answer = get(exports, exports.url(f"definition/{SHA256}", NOW_MS + 1000))
    assert (answer.status, answer.content_type, answer.body) == (200, "application/zip", tmp_path / SHA256)
    assert answer.headers["content-disposition"] == f'attachment; filename="{SHA256[:16]}.zip"'


def test_a_readme_is_fetched_as_markdown(exports: Exports) -> None:
    answer = get(exports, exports.url("readme/123456789012/1000000", NOW_MS + 1000))
    assert (answer.status, answer.content_type, answer.body) == (
        200,
        "text/markdown; charset=utf-8",
        "# Größe".encode(),
    )


def test_a_versions_readme_is_another(exports: Exports) -> None:
    assert get(exports, exports.url("readme/123456789012/1000000/v1.0_b", NOW_MS + 1000)).body == b"# Version"
    assert get(exports, exports.url("readme/123456789012/1000000/v2", NOW_MS + 1000)).status == 404


@pytest.mark.source("model")
def test_the_longest_url_has_at_most_256_characters(exports: Exports) -> None:
    assert len(exports.url(f"readme/123456789012/{'9' * 18}/{'v' * 64}", NOW_MS)) <= 256


@pytest.mark.source("model")
def test_a_url_has_at_most_256_characters_and_is_made_from_the_servers_own_address(exports: Exports) -> None:
    url = exports.url(f"definition/{SHA256}", NOW_MS)
    assert url.startswith(f"http://127.0.0.1:8080{PREFIX}definition/{SHA256}?")
    assert len(url) <= 256


def test_a_url_ends_at_its_time(exports: Exports, now: list[int]) -> None:
    url = exports.url(f"definition/{SHA256}", NOW_MS + 60_000)
    now[0] = NOW_MS + 59_999
    assert get(exports, url).status == 200
    now[0] = NOW_MS + 60_000
    assert get(exports, url) == replace(get(exports, url), status=403)
    assert b"has expired. Ask for a new one" in bytes(get(exports, url).body)  # type: ignore[arg-type]


def changed(url: str, **query: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **query})).geturl()


@pytest.mark.parametrize(
    "change",
    [
        lambda url: changed(url, expires="9999999999"),
        lambda url: changed(url, expires="-1"),
        lambda url: changed(url, expires="٣"),
        lambda url: changed(url, signature=""),
        lambda url: changed(url, signature="é"),
        lambda url: url.partition("?")[0],
        lambda url: url.replace("definition/", "readme/123456789012/1000000?x="),
        lambda url: url.replace(SHA256, "0" * 64),
        lambda url: url.replace("definition/", "definition/../../"),
    ],
)
def test_a_url_that_is_not_exactly_one_of_ours_is_forbidden(exports: Exports, change: Callable[[str], str]) -> None:
    answer = get(exports, change(exports.url(f"definition/{SHA256}", NOW_MS + 1000)))
    assert (answer.status, answer.body) == (
        403,
        b"This export URL is not valid. Ask for a new one with export=DEFINITION or export=README.\n",
    )


def test_another_key_ends_every_url(exports: Exports) -> None:
    url = exports.url(f"definition/{SHA256}", NOW_MS + 1000)
    assert get(replace(exports, key=b"x" * 32), url).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "definition/" + "0" * 64,
        "readme/123456789012/7",
        "readme/123456789012/7/../8",
        "definition/../../etc/passwd",
        "other",
    ],
)
def test_what_is_gone_is_not_found_even_with_a_signature(exports: Exports, path: str) -> None:
    assert get(exports, exports.url(path, NOW_MS + 1000)).status == 404


def test_only_reading_is_answered(exports: Exports) -> None:
    url = exports.url(f"definition/{SHA256}", NOW_MS + 1000)
    assert get(exports, url, "HEAD").status == 200
    assert (get(exports, url, "PUT").status, get(exports, url, "PUT").headers) == (405, {"allow": "GET, HEAD"})
