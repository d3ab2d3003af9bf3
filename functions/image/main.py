"""GET /image/<name>: a stored image, to anybody who knows its name. GET /images, DELETE /images/<name>: for the admin."""

from starlette.responses import Response

from functions.image.serving import delete_image, image_answer, recent_images
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.images.links import PREFIX


@endpoint()
async def image(call: Call) -> Response | JsonObject:
    if call.path.startswith(PREFIX):
        return await image_answer(call, call.path.removeprefix(PREFIX))
    await call.require_admin()
    if call.method == "DELETE":
        return await delete_image(call, call.path.removeprefix("/images/"))
    return await recent_images(call)
