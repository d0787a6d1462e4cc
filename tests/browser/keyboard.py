"""Walks through a page with the keyboard alone."""

from __future__ import annotations

from typing import Any


def tab_to(page: Any, name: str) -> None:
    """Press Tab until the element that has the focus is named so; then it can be seen to have it.

    Args:
        page: a Playwright page.
        name: a part of the element's label, text or value.
    """
    named = """() => {
        const at = document.activeElement;
        if (at === document.body) return "";  // nothing has the focus
        const value = at.type === "submit" ? at.value : "";
        return [at.getAttribute("aria-label"), at.labels?.[0]?.textContent, at.textContent, value].filter(Boolean).join("|");
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        if name in page.evaluate(named):
            assert page.evaluate("document.activeElement.matches(':focus-visible')"), "the focus cannot be seen"
            return
    raise AssertionError(f"Tab does not lead to “{name}”")
