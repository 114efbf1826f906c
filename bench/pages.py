"""Where the results of a run are kept in the documentation."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


def replace_results(docs: Path, results: str) -> None:
    """Put Markdown in the place of the results of the run before."""
    before, _, rest = docs.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    docs.write_text(f"{before}{BEGIN}\n{results.rstrip()}\n\n{END}{after}")
