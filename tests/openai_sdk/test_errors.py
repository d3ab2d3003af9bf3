"""Each error raises the class of OpenAI's SDK that its users catch, and is sent again only where that can help."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from tests.openai_sdk.conftest import Client
from tests.openai_sdk.gateway import Gateway

PATH = "/v1/chat/completions"


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": text}], **more}


async def failure(client: Client, method: str = "chat.completions.create", **parameters: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as raised:
        await client(method, **parameters)
    assert raised.value.request_id
    assert raised.value.body is not None
    return raised.value


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("401", openai.AuthenticationError, "invalid_api_key"),
        ("403-disabled", openai.PermissionDeniedError, "permission_denied"),
        ("429-zero", openai.RateLimitError, "insufficient_quota"),
        ("429-day", openai.RateLimitError, "insufficient_quota"),
        ("400", openai.BadRequestError, "rejected_by_gemini"),
        ("500", openai.InternalServerError, "upstream_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_class_by_cause(client: Client, fault: str, kind: Any, code: str, stream: bool) -> None:
    """With the caller's own key. A request that fails before the first byte of a stream has a status too."""
    one = client.with_fresh_key.with_options(max_retries=0)
    error = await failure(one, **asked(f"[[fault:{fault}]] Hello", stream=stream))
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    assert error.code == code


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"n": 100}, "n"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"model": "gemini-embedding-2"}, "model"),
    ],
)
async def test_bad_request_names_the_parameter(client: Client, parameters: dict[str, Any], param: str) -> None:
    error = await failure(client, **{**asked("Hello"), **parameters})
    assert error.status_code in (400, 404)
    assert error.param == param


async def test_unknown_model_is_not_found(client: Client) -> None:
    error = await failure(client, **{**asked("Hello"), "model": "gpt-4o"})
    assert isinstance(error, openai.NotFoundError)
    assert error.code == "model_not_found"


async def test_path_that_is_not_built_is_not_found(client: Client) -> None:
    assert isinstance(await failure(client, "moderations.create", input="Hello"), openai.NotFoundError)


async def test_the_clients_own_timeout_is_its_error(client: Client) -> None:
    impatient = client.with_options(timeout=0.5, max_retries=0, default_headers={"x-request-timeout": "60"})
    with pytest.raises(openai.APITimeoutError):
        await impatient("chat.completions.create", **asked("[[latency:20000]] Hello"))


async def test_gateway_obeys_the_clients_timeout(client: Client) -> None:
    """The SDK sends its timeout along. Both timers end at the same time, so either error may come first."""
    impatient = client.with_options(timeout=1, max_retries=0)
    began_s = time.monotonic()
    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
        await impatient("chat.completions.create", **asked("[[latency:30000]] Hello"))
    assert time.monotonic() - began_s < 15


async def test_failure_in_a_stream_is_raised(client: Client) -> None:
    """The text that came before is not mistaken for the answer."""
    with pytest.raises(openai.APIError):
        await client.events("chat.completions.create", **asked("[[fault:cut]] [[words:200]] Hello", stream=True))


@pytest.mark.parametrize("fault", ["503x1", "500x1"])
async def test_gateway_repeats_by_itself(client: Client, gateway: Gateway, fault: str) -> None:
    """The SDK sends such a request once."""
    before = len(gateway.requests(PATH))
    answer = await client("chat.completions.create", **asked(client.fresh(f"[[fault:{fault}]] Hello")))
    assert answer.choices[0].message.content
    assert len(gateway.requests(PATH)) == before + 1
