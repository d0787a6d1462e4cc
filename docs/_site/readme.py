"""Print the README for a package index, where relative links lead nowhere: with links to the published site.

``python docs/_site/readme.py https://docs.example.com/1.0``; ``make dist`` calls it.
"""

from __future__ import annotations

import re
import sys

from hooks import FROM_ROOT, ROOT


def with_absolute_links(text: str, base_url: str) -> str:
    """Return a text from the repository's root whose links and pictures lead to the site.

    Args:
        text: Markdown.
        base_url: where the site is published.
    """

    def replaced(link: re.Match[str]) -> str:
        path, anchor = FROM_ROOT.get(link["path"], link["path"].removeprefix("docs/")), link["anchor"] or ""
        path = f"{path.removesuffix('.md')}/" if path.endswith(".md") else path
        return f"]({base_url.rstrip('/')}/{path}{anchor})"

    return re.sub(r"\]\((?P<path>(?!\w+:|#)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", replaced, text)


if __name__ == "__main__":
    sys.stdout.write(with_absolute_links((ROOT / "README.md").read_text(), sys.argv[1]))
