"""GET /openapi.json and GET /docs: the specification of all functions, as JSON and as a page."""

from starlette.responses import RedirectResponse, Response

from shared.http.endpoint import Call, endpoint


@endpoint()
async def console(call: Call) -> Response:
    # Imported by the first request: they load pydantic and the models of every function, which a cold start should not.
    from functions.console.assets import asset, page
    from functions.console.specification import specification

    if call.path.rstrip("/") == "/openapi.json":
        return specification(call.settings).response(call.headers)
    if call.path == "/docs":
        return page().response(call.headers)
    if call.path == "/docs/":
        # The page has relative links, which work under any address but need the path without the slash.
        return RedirectResponse("../docs", 308)
    return asset(call.path.removeprefix("/docs/")).response(call.headers)
