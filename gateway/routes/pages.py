"""Pages for people and the document for programs; everything is made here, so that it works without the internet."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gateway.pages import api_page
from gateway.problems import problem_page
from ledger.errors import NotFound

__all__ = ["router"]


def router() -> APIRouter:
    """Give the routes; they are the same for every process."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def front() -> Response:
        return RedirectResponse("/docs")

    @routes.get("/openapi.json")
    async def document(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return HTMLResponse(api_page(request.app.openapi()))

    @routes.get("/problems/{code}")
    async def problem(code: str) -> Response:
        page = problem_page(code)
        if page is None:
            raise NotFound("PROBLEM_NOT_FOUND", "There is no problem of this code.")
        return HTMLResponse(page)

    return routes
