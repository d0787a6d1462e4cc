"""axe-core: what is wrong with a page by WCAG 2.2 A and AA."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

# Django's own: links in its breadcrumbs are told by color alone; its search field and its autocomplete have no label.
DJANGOS = [[".breadcrumbs"], ["#changelist-search"], [".changelist-filter"], [".select2-container"]]


def faults(page: Any) -> list[str]:
    """What is wrong with a Playwright page, one line for each element.

    Args:
        page: open, with ``bypass_csp`` where its policy forbids inline styles: axe styles what it measures.
    """
    found = Axe().run(page, context={"include": [["body"]], "exclude": DJANGOS}).response["violations"]
    return [
        f"{page.url}: {fault['help']}: {node['html'][:200]} {node['failureSummary']}"
        for fault in found
        for node in fault["nodes"]
    ]
