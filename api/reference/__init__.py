"""The reference of the API at /docs: its OpenAPI description in Swagger UI, from files of our own and nowhere else."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from api.problems import Code, Problem

# Styles in line, because Swagger UI writes some; pictures as data, because its style sheet has some.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Celeriac API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/reference.css">
<script src="docs/swagger-ui-bundle.js" defer></script>
<script src="docs/reference.js" defer></script>
</head>
<body>
<main id="reference"><noscript>The reference is drawn by a script. <a href="openapi.json">openapi.json</a> says the same
to programs.</noscript></main>
</body>
</html>
"""
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "LICENSE": "text/plain"}
# By the version that wrote it: an upgrade of ours is to be seen on the next day.
KEPT = "public, max-age=86400"


def routes() -> list[Route]:
    """The page and its files, which need no token: they say nothing of any job."""
    return [
        Route("/docs", page, include_in_schema=False),
        Route("/docs/{name}", file, include_in_schema=False),
    ]


async def page(_: Request) -> Response:
    """The page, whose addresses are relative: it may lie behind a prefix."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


async def file(request: Request) -> Response:
    """A script or a style sheet of the page, packed as it is stored for those that take it so."""
    name = request.path_params["name"]
    packed = assets().get(name)
    if packed is None:
        raise Problem(Code.NOT_FOUND, "The reference has no such file.")
    headers = {"Cache-Control": KEPT, "Vary": "Accept-Encoding"}
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(gzip.decompress(packed), media_type=media_type, headers=headers)


@cache
def assets() -> dict[str, bytes]:
    """The files by their names, packed: Swagger UI would be 1.7 MB."""
    root = files("api.reference")
    own = {name: gzip.compress((root / name).read_bytes(), mtime=0) for name in ("reference.js", "reference.css")}
    vendored = {each.name: each.read_bytes() for each in (root / "vendor").iterdir()}
    return {
        **own,
        **{name.removesuffix(".gz"): content for name, content in vendored.items() if name.endswith(".gz")},
        "swagger-ui.LICENSE": gzip.compress(vendored["swagger-ui.LICENSE"], mtime=0),
    }
