"""Links of the README and the documentation lead somewhere, and the site shows every page once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_pages import PAGES, ROOT, anchors_of, links_of, name_of

INDEX = ROOT / "docs/index.md"


def problem(page: Path, target: str) -> str | None:
    """Return what is wrong with a link; what lies in the network is not looked at."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        is_whole = parts.scheme in ("https", "http") and re.fullmatch(r"[\w.:-]+", parts.netloc)
        return None if is_whole else "no address"
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not path.is_relative_to(ROOT):
        return "lies outside of the repository"
    if not path.exists():
        return "is not there"
    if parts.fragment and path.suffix == ".md" and parts.fragment not in anchors_of(path):
        return "has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    found = {target: problem(page, target) for target in links_of(page)}
    assert not {target: what for target, what in found.items() if what}


def test_wrong_links_are_noticed() -> None:
    assert problem(INDEX, "no-such-page.md") == "is not there"
    assert problem(INDEX, "install.md#no-such-heading") == "has no such heading"
    assert problem(INDEX, "install.md#from-a-wheel") is None
    assert problem(INDEX, "../../elsewhere") == "lies outside of the repository"
    assert problem(INDEX, "https:/one-slash") == "no address"


def test_the_first_page_lists_every_page_once() -> None:
    listed = Counter(target for target in links_of(INDEX) if target.endswith(".md"))
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {INDEX.name}
    assert set(listed) == pages
    assert set(listed.values()) == {1}
