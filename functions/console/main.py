"""GET /openapi.json and GET /docs: the specification of every function, for programs and for people."""

from starlette.responses import RedirectResponse, Response

from shared.http.endpoint import Call, endpoint


@endpoint()
async def console(call: Call) -> Response:
    # The first request loads these, and with them pydantic and the models of every function; the start does not.
    from functions.console.assets import asset, page
    from functions.console.specification import specification

    if call.path.rstrip("/") == "/openapi.json":
        return specification(call.settings).answer(call.headers)
    if call.path == "/docs":
        return page().answer(call.headers)
    if call.path == "/docs/":
        # The page's addresses are relative, so that they hold wherever the function is deployed.
        return RedirectResponse("../docs", 308)
    return asset(call.path.removeprefix("/docs/")).answer(call.headers)
