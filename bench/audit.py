"""`python -m bench.audit`: whether what the image holds has vulnerabilities that are known, by pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements" / "production.lock"
PATIENCE = 300  # seconds
UNREACHED = ("ConnectionError", "Timeout", "ServiceError", "SSLError", "ProxyError")


def judged(out: str, err: str) -> tuple[bool, str]:
    """Whether what pip-audit has printed lets it pass, and what is to be said of it.

    It passes where the source of what is known cannot be asked, which is said. pip-audit itself takes a package that
    its source does not know for one without vulnerabilities.
    """
    if not out.strip():
        last = err.strip().splitlines()[-1:] or ["it said nothing"]
        is_away = any(word in err for word in UNREACHED)
        return is_away, f"audit skipped: its source cannot be reached: {last[0]}" if is_away else f"audit: {last[0]}"
    packages = json.loads(out)["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, mended in {', '.join(each['fix_versions']) or 'none'}"
        for package in packages
        for each in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if found:
        return False, "\n".join(["audit: known vulnerabilities", *found])
    if len(skipped) == len(packages):
        return True, "audit skipped: its source knows none of the packages, a mirror without what is known of them"
    unknown = f"; not known there: {', '.join(skipped)}" if skipped else ""
    return True, f"audit: {len(packages) - len(skipped)} packages without a known vulnerability{unknown}"


def main() -> None:
    """Ask, and end with 1 when something is known."""
    options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--requirement", LOCK, *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    passes, said = judged(done.stdout, done.stderr)
    print(said)
    sys.exit(not passes)


if __name__ == "__main__":
    main()
