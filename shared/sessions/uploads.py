"""POST /upload: a file for the session's next message, in a form, or announced and sent to an upload URL.

The file is streamed to the storage, and is nobody's until it is whole and of a type that Gemini takes. An image is read back
then: only its whole structure tells that nothing is missing, and a damaged one would fail every answer of its session.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from starlette.responses import Response

from shared.auth.credentials import network_of
from shared.bounds.byte_budget import Bucket
from shared.errors import BadRequest, GatewayError, NotFound, PayloadTooLarge, UnsupportedMediaType
from shared.files.files import Unlisted
from shared.files.resumable import PURPOSE, ResumableUploads, no_upload
from shared.http.call import Call
from shared.http.disconnect import DisconnectWatch
from shared.http.multipart import FORM, file_name
from shared.http.request_body import require_uncompressed
from shared.http.response import JsonResponse
from shared.http.stored_files import count_upload
from shared.media.input_image import checked
from shared.media.port import Write
from shared.sessions.identity import owner_fingerprint, session_of, with_session
from shared.sessions.incoming import Incoming, receive_content, receive_form
from shared.sessions.process import sessions_of
from shared.sessions.session import FileRef, files_owner
from shared.sessions.store import SessionRef
from shared.sessions.upload_bodies import ResumableBody
from shared.sessions.upload_types import HEAD_BYTES, MAX_IMAGE_BYTES, check_size, is_image, upload_type

_MIB = 1024 * 1024


async def upload(call: Call) -> Response:
    resumable = call.request.query_params.get("resumable")
    if resumable not in (None, "0", "1"):
        raise BadRequest("resumable must be 1, or absent.", field="resumable")
    if resumable != "1":
        return await _receive_form(call)
    if call.headers.get("content-type", "").lower().startswith(FORM):
        raise UnsupportedMediaType(
            "With resumable=1 the body is JSON, with the name and size_bytes of the file; the file itself goes to the upload_url "
            "of the answer.",
            details={"field": "resumable"},
        )
    return await _announce(call)


async def complete(call: Call) -> Response:
    """Checks what has arrived for an announced upload, and adds it to its session."""
    uploads, sessions = ResumableUploads(call.services.files), sessions_of(call)
    found = await uploads.find(call.path_parameters["id"], owner_fingerprint(call))
    session = await sessions.read(found.owner, found.session)
    if not found.mime_type:
        async with uploads.arrived(found) as file:
            head = await file.read((0, min(HEAD_BYTES, found.size_bytes)))
            mime_type = await _checked_type(call, file, upload_type(head, found.content_type), found.size_bytes)
            found = await uploads.completed(found, file, files_owner(session.sid), mime_type)
    added = FileRef(found.id, found.filename, found.mime_type, found.size_bytes)
    if not found.joined:
        await sessions.add_upload(session, added)
        await uploads.joined(found)
    return _answer(call, session, added)


async def put_content(call: Call) -> Response:
    """The bytes of an announced upload, where the storage has no upload URLs. Its id in the path is the credential."""
    require_uncompressed(call.headers)
    uploads = ResumableUploads(call.services.files)
    found = await uploads.find(call.path_parameters["id"], None)
    if not found.here or found.mime_type:
        # The storage takes the bytes, or has all of them: what came now would be nobody's, and stay until it expires.
        raise no_upload()
    call.claim.move(Bucket(network_of(call.address), known=False))
    await uploads.receive(found, partial(receive_content, call, found.size_bytes))
    return JsonResponse(
        {
            "success": True,
            "message": "The file has arrived. Complete the upload to use it.",
            "id": found.id,
            "size_bytes": found.size_bytes,
        }
    )


async def _receive_form(call: Call) -> Response:
    # Without a storage, the request fails before its body is read.
    files = call.services.files
    received: list[Incoming] = []

    async def receive(write: Write) -> None:
        received.append(await receive_form(call, write))

    async with files.receiving(receive, call.settings.images.file_ttl_s) as file:
        [sent] = received
        with DisconnectWatch(call.request.receive):
            session = await session_of(call, sent.body.session_id)
            await count_upload(call, sent.size_bytes)
            mime_type = await _checked_type(call, file, sent.mime_type, sent.size_bytes)
            stored = await file.list_as(
                files_owner(session.sid),
                filename=sent.filename,
                purpose=PURPOSE,
                mime_type=mime_type,
                size_bytes=sent.size_bytes,
            )
    added = FileRef(stored.id, stored.filename, stored.mime_type, stored.size_bytes)
    try:
        await sessions_of(call).add_upload(session, added)
    except (BadRequest, NotFound):
        # After any other error the session may have the file.
        with suppress(GatewayError):
            await files.delete(files_owner(session.sid), stored.id)
        raise
    return _answer(call, session, added)


async def _announce(call: Call) -> Response:
    uploads = ResumableUploads(call.services.files)
    body = await call.read(ResumableBody)
    limit_bytes = call.settings.max_upload_bytes
    if body.size_bytes > limit_bytes:
        raise PayloadTooLarge(
            f"size_bytes is {body.size_bytes}; an upload may have {limit_bytes // _MIB} MB. Send a smaller file.",
            details={"field": "size_bytes", "limit_bytes": limit_bytes},
        )
    name = file_name(body.name, "name")
    if not name:
        raise BadRequest("name must be the name of a file, like film.mp4.", field="name")
    session = await session_of(call, body.session_id)
    await count_upload(call, body.size_bytes)
    if session.head is None:
        # Its caller may send messages and other files to it before this one is complete.
        await sessions_of(call).begin(session)
    announced, url = await uploads.announce(
        owner_fingerprint(call),
        session=session.sid,
        filename=name,
        content_type=body.type,
        size_bytes=body.size_bytes,
        ttl_s=call.settings.images.file_ttl_s,
        origin=call.headers.get("origin", ""),
    )
    answer = {
        "success": True,
        "message": "Send the file to upload_url with PUT, then complete the upload.",
        "id": announced.id,
        "upload_url": url or f"{call.base_url}/upload/{announced.id}/content",
        "session_id": session.sid,
    }
    return with_session(call, session, JsonResponse(answer))


async def _checked_type(call: Call, file: Unlisted, mime_type: str, size_bytes: int) -> str:
    """The type, after the whole of an image was checked. Raises BadRequest, PayloadTooLarge and QueueFull."""
    if not is_image(mime_type):
        return mime_type
    check_size(mime_type, size_bytes)
    call.claim.cover(size_bytes)
    data = await file.read()
    return (await call.work(partial(checked, data, "file", MAX_IMAGE_BYTES), size_bytes)).mime_type


def _answer(call: Call, session: SessionRef, file: FileRef) -> Response:
    answer = {
        "success": True,
        "message": "The file is stored. It goes to Gemini with the session's next message.",
        "id": file.id,
        "name": file.name,
        "type": file.mime_type,
        "size_bytes": file.size_bytes,
        "session_id": session.sid,
    }
    return with_session(call, session, JsonResponse(answer))
