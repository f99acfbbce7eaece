"""The README and the pages of the documentation: their code, their links and their headings."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def name_of(page: Path) -> str:
    """Return what a page is called in the names of tests."""
    return page.relative_to(ROOT).as_posix()


def tokens_of(page: Path):
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks_of(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of code in a language."""
    return [one.content for one in tokens_of(page) if one.type == "fence" and one.info == language]


def links_of(page: Path) -> list[str]:
    """Return where links and pictures of a page lead."""
    found = []
    for token in tokens_of(page):
        for part in token.children or ():
            target = part.attrs.get("href") or part.attrs.get("src")
            if target is not None:
                found.append(target)
            if part.type == "html_inline":
                found += re.findall(r"(?:href|src|srcset)=\"([^\"]+)\"", part.content)
        if token.type == "html_block":
            found += re.findall(r"(?:href|src|srcset)=\"([^\"]+)\"", token.content)
    return found


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    anchors: set[str] = set()
    tokens = tokens_of(page)
    for opening, inside in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(part.content for part in inside.children or ())
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number, anchor = 0, slug
        while anchor in anchors:
            number += 1
            anchor = f"{slug}-{number}"
        anchors.add(anchor)
    return anchors
