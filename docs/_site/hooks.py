"""What `mkdocs build` does besides: pages from the repository's root, links that leave docs/, and no fetch from elsewhere."""

from __future__ import annotations

import html.parser
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
}
"""Documents beside docs/, and the pages that they become."""
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>(?!\w+:|#)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
PAGE_LINK = re.compile(r"\]\((?P<target>docs/[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Name the version in the site's title."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "partium_auth/version.py").read_text())
    config.site_name = f"{config.site_name} {version[1] if version else ''}"
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the documents of the repository's root."""
    from mkdocs.structure.files import File

    for name, page in FROM_ROOT.items():
        text = (ROOT / name).read_text()
        files.append(File.generated(config, page, content=PAGE_LINK.sub(lambda m: f"]({m['target'][5:]})", text)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Point links at the pages of this site, or name the file where the site has none."""
    return without_links_out(markdown, page.file.src_uri)


def on_page_content(html: str, **kwargs: Any) -> str:
    """Show the roles of reStructuredText in docstrings as code; double backticks are code already."""
    return re.sub(r":(?:attr|class|data|exc|func|meth|mod):<code>[~.]?", "<code>", html)


def without_links_out(markdown: str, page: str) -> str:
    """Return the text of a page in which every link leads to a page of the site.

    Args:
        markdown: the text.
        page: its path inside docs/.
    """
    is_from_root = page in FROM_ROOT.values()

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link["text"], link["target"], link["anchor"] or ""
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if is_from_root and (ROOT / target).exists():
            path = target
        if path in FROM_ROOT:
            return f"[{text}]({posixpath.relpath(FROM_ROOT[path], posixpath.dirname(page) or '.')}{anchor})"
        if path.startswith("docs/"):
            return link[0]
        return text if text.strip("`") == path else f"{text} (`{path}` in the source distribution)"

    return LINK.sub(replaced, markdown)


class _Fetches(html.parser.HTMLParser):
    """Collects what a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        is_shown = values.get("rel") not in ("canonical", "prev", "next", "edit")
        fetched = [values.get("src"), values.get("srcset"), values.get("href") if tag == "link" and is_shown else None]
        self.found += [url for url in fetched if url]


def fetched_from_elsewhere(text: str, *, is_css: bool = False) -> list[str]:
    """Return the addresses on other hosts that a browser fetches to show a page or a style sheet."""
    if is_css:
        found = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", text)
    else:
        parser = _Fetches()
        parser.feed(text)
        found = parser.found + [
            url
            for style in re.findall(r"<style.*?</style>", text, re.DOTALL)
            for url in fetched_from_elsewhere(style, is_css=True)
        ]
    return [url for url in found if re.match(r"(https?:)?//", url)]


def on_post_build(config: Any) -> None:
    """End the build where a page would fetch something from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.*")):
        is_css = path.suffix == ".css"
        urls = fetched_from_elsewhere(path.read_text(), is_css=is_css) if is_css or path.suffix == ".html" else []
        if urls:
            sys.exit(f"{path.relative_to(config.site_dir)} fetches from elsewhere: {', '.join(urls)}")
