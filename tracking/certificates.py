"""What is checked of a broker's certificate."""

from __future__ import annotations

import ssl
from typing import Any


def verifying(given: Any, host: str) -> dict[str, Any]:
    """The options of TLS for amqp, from those of a URL (ssl_ca_certs ...): all is checked that they do not waive."""
    options = {name.removeprefix("ssl_"): value for name, value in given.items()} if isinstance(given, dict) else {}
    options = {"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True, **options}
    is_checked = options.pop("check_hostname") and options["cert_reqs"] != ssl.CERT_NONE
    return {**options, "server_hostname": host} if is_checked else options
