"""The demo site over HTTP: two kinds of pages, their files, and the journey of a visit's events.

Belongs here: routes and what protects them. Does not belong here: the pages themselves (``site/``), the tables
(``journey``).

Everything is served to this machine alone, and under a policy that lets a page run no script but its own files and the
collector's tracer, and turn no text into markup.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chart_platform.demo.journey import BadQuestion, Journeys, Question
from chart_platform.settings import Settings
from chart_platform.simulator.catalog import PRODUCTS

SITE = Path(__file__).parent / "site"
HOME = "/compare/website-builders"
HOSTS = ("127.0.0.1", "localhost")


def create_app(settings: Settings, write_key: str) -> Starlette:
    """The site for a collector's browser key. Opens the tables of ``settings`` at the first question about them."""
    products = {product for product, _ in PRODUCTS}
    page = Template((SITE / "index.html").read_text(encoding="utf-8")).substitute(
        collector=escape(settings.edge_base_url), key=escape(write_key)
    )
    # Tables and DuckDB belong to one thread; a second question waits for its turn.
    tables = ThreadPoolExecutor(1, "journey")
    journeys: list[Journeys] = []

    def look(question: Question) -> dict[str, Any]:
        if not journeys:
            journeys.append(Journeys(settings))
        return journeys[0].look(question)

    async def show(request: Request) -> Response:
        known = request.path_params.get("product", "sitesmith") in products
        return HTMLResponse(page, 200 if known else 404, {"Cache-Control": "no-cache"})

    async def journey(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _error(403, "Only this site asks for journeys.")
        asked = request.query_params
        try:
            question = Question.parse(asked.get("session_id", ""), asked.get("event_ids", ""))
        except BadQuestion as error:
            return _error(400, str(error))
        answer = await asyncio.get_running_loop().run_in_executor(tables, look, question)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        tables.shutdown(wait=False, cancel_futures=True)

    return Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse(HOME)),
            Route(HOME, show),
            Route("/reviews/{product}", show),
            Route("/journey", journey),
            Route("/healthz", lambda _: JSONResponse({"status": "ok"})),
            Mount("/static", StaticFiles(directory=SITE)),
        ],
        # Names that others may point at this machine are refused, so that no foreign page reads what is answered here.
        middleware=[
            Middleware(_Guarded, policy=_policy(settings.edge_base_url)),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        ],
        lifespan=lifespan,
    )


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status, {"Cache-Control": "no-store"})


def _policy(collector: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {collector}",
            f"connect-src 'self' {collector}",
            "style-src 'self'",
            "img-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


class _Guarded:
    """Puts the headers that protect a page on every answer, errors included."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "browsing-topics=(), camera=(), geolocation=(), microphone=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, guarded if scope["type"] == "http" else send)
