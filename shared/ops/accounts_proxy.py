"""The accounts command's `proxy`: the stored outbound proxy, of which running instances use a change within five seconds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from shared.accounts.old_file import public_url
from shared.configuration.document import Configuration, Proxy
from shared.configuration.effective import locked_fields
from shared.configuration.stored_proxy import stored, url_of
from shared.generation import JsonObject
from shared.ops.accounts_desk import Desk, print_result
from shared.ops.proxy_check import check_proxy
from shared.ops.terminal import InputError, read_secret

MAX_URL_CHARS = 2_000
_NONE = "There is no stored proxy; store one with `proxy set`."


def add_command(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    proxy = command("proxy", "show, store, switch or test the outbound proxy")
    proxy.add_argument(
        "do",
        choices=("show", "set", "on", "off", "remove", "test"),
        help="`set` reads the URL from a prompt or from standard input, since it may contain a password",
    )


async def proxy_command(options: argparse.Namespace, desk: Desk) -> int:
    """The exit status: 1 if a test did not reach Gemini."""
    if options.do == "test":
        return await _test(options, desk)
    if options.do == "show":
        configuration = await desk.configuration.read(max_age_s=0.0)
    else:
        configuration = await desk.configuration.change(_changer(options.do, desk))
    return _print(options, desk, configuration.proxy)


def _changer(do: str, desk: Desk) -> Callable[[Configuration], Configuration]:
    if do == "set":
        url = read_secret("Proxy URL, like http://user:password@proxy.example:3128: ", MAX_URL_CHARS)
        keys = desk.make_keys() if "@" in url.reveal() else desk.keys
        return lambda current: replace(current, proxy=stored(url, keys, current.proxy))
    if do == "remove":
        return lambda current: replace(current, proxy=None)

    def switched(current: Configuration) -> Configuration:
        if current.proxy is None:
            raise InputError(_NONE)
        return replace(current, proxy=replace(current.proxy, enabled=do == "on"))

    return switched


def _print(options: argparse.Namespace, desk: Desk, proxy: Proxy | None) -> int:
    lock = locked_fields(desk.settings.environment).get("proxy")
    shown: JsonObject = {
        "proxy": None if proxy is None else proxy.url,
        "with_credentials": proxy is not None and bool(proxy.sealed),
        "enabled": proxy is not None and proxy.enabled,
        "locked_by": lock,
    }
    lines = ["There is no stored proxy." if proxy is None else f"{proxy.url} ({'on' if proxy.enabled else 'off'})"]
    if proxy is not None and proxy.sealed:
        lines.append("It has a user name and a password, which are encrypted.")
    if lock is not None:
        lines.append(f"It is not used: {lock} is set in the environment, which wins.")
    print_result(options, {"proxy": shown}, "".join(f"{line}\n" for line in lines))
    return 0


async def _test(options: argparse.Namespace, desk: Desk) -> int:
    configuration, target = await desk.configuration.read(max_age_s=0.0), desk.settings.base_url
    url = desk.settings.proxy_for(target)
    if url is None and configuration.proxy is not None:
        url = url_of(configuration.proxy, desk.keys)
    if url is None:
        raise InputError(_NONE)
    check = await check_proxy(url, target)
    print_result(
        options,
        {"proxy": public_url(url), "check": check.as_json()},
        f"{check.outcome} after {check.took_ms} ms: {check.message}\n",
    )
    return 0 if check.outcome == "reachable" else 1
