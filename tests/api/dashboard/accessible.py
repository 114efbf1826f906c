"""Whether everybody can use a page: what axe finds on it that WCAG 2.2 AA or good practice asks for, light and dark."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

AXE = files("axe_playwright_python") / "axe.min.js"
STANDARDS = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
COLOURS = "{type: 'rule', values: ['color-contrast']}"  # all that can differ in the dark
# Of all that it tells of a page, a megabyte, no more than this leaves the browser.
SAID = "({violations}) => violations.map(({id, nodes}) => `${id}: ${nodes.map(each => JSON.stringify(each.target))}`)"


def violations(page: Page) -> list[str]:
    """What axe finds on a page that is open, whose context bypasses the CSP."""
    page.evaluate(AXE.read_text())
    found = []
    for scheme, rules in (("light", STANDARDS), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        options = f"{{runOnly: {rules}, resultTypes: ['violations']}}"
        found += [f"{scheme}: {each}" for each in page.evaluate(f"axe.run(document, {options}).then({SAID})")]
    return found
