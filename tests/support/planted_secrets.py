"""Secrets of every kind, which come in by every way in and may appear nowhere else; and the search for them."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import orjson

from tests.support.accounts_command import ADDED_KEY, ENVIRONMENT_KEY, Command
from tests.support.data_keys import data_key
from tests.support.old_files import document

ECHOED_KEY = "AIzaSy-planted-rejected-key-00000000003"
PASTED_KEY = "AIzaSy-planted-pasted-key-0000000000005"
PASSPHRASE, PROXY_PASSWORD = "planted passphrase of an export", "planted-proxy-password"
ADMIN_KEY = "planted-admin-key-0123456789"
PRIVATE_KEY = "plantedPrivateKeyplantedPrivateKey0123456789"
KEY_FILE = {
    "type": "service_account",
    "project_id": "my-project",
    "private_key_id": "0123456789abcdef0123456789abcdef01234567",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END PRIVATE KEY-----\n",
    "token_uri": "https://oauth2.googleapis.com/token",
    "client_email": "gateway@my-project.iam.gserviceaccount.com",
}
ENVIRONMENT = {
    "GEMINI_API_KEY": ENVIRONMENT_KEY,
    "ADMIN_API_KEY": ADMIN_KEY,
    "HTTP_PROXY": f"http://u:{PROXY_PASSWORD}@127.0.0.1:1",
    "ACCOUNTS_DATA_KEY": f"{data_key('n').reveal()},{data_key('k').reveal()}",
}
"""The variables that hold planted secrets."""


def planted() -> dict[str, str]:
    """What each of them is, and the secret."""
    file = document()
    return {
        "key in the environment": ENVIRONMENT_KEY,
        "key that is added": ADDED_KEY,
        "key that is pasted": PASTED_KEY,
        "key that Google echoes": ECHOED_KEY,
        "private key": PRIVATE_KEY,
        "first cookie": file["accounts"][0]["secure_c_ses"],
        "second cookie": file["accounts"][0]["host_c_oses"],
        "token of an account": file["accounts"][1]["jwt"],
        "password of the stored proxy": "planted-password",
        "password of the environment's proxy": PROXY_PASSWORD,
        "passphrase": PASSPHRASE,
        "data key": data_key("n").reveal(),
        "earlier data key": data_key("k").reveal(),
        "admin key": ADMIN_KEY,
    }


def run_everything(command: Command, folder: Path) -> list[str]:
    """What all commands print, with one failure of each. It leaves `export.json` in the folder, and enabled accounts."""
    printed: list[str] = []

    def run(*arguments: str, stdin: str = "") -> None:
        for options in ((), ("--json",)):
            _, out, err = command.run(*arguments, *options, stdin=stdin)
            printed.extend((out, err))

    command.env |= {name: ENVIRONMENT[name] for name in ("ADMIN_API_KEY", "HTTP_PROXY")}
    pasted = f"name,{PASTED_KEY}\n{ECHOED_KEY}\n{orjson.dumps(KEY_FILE).decode()}\n"
    run("add", stdin=ADDED_KEY)
    run("paste", stdin=f"{pasted}{ADDED_KEY[:15]}\n'{planted()['first cookie']}\n")
    run("import", command.write("old.json", document()))
    run("import", command.write("wrong.json", document(proxy_enabled=planted()["token of an account"])))
    for name in ("list", "states", "configuration", "test", "export"):
        run(name)
    run("export", "--secrets", stdin=f"{PASSPHRASE}\n")
    run("export", "--secrets", "--output", str(folder / "export.json"), stdin=f"{PASSPHRASE}\n")
    run("import", str(folder / "export.json"), stdin=f"{PASSPHRASE}\n")
    run("import", str(folder / "export.json"), stdin=f"{PASSPHRASE} wrong\n")
    command.env["ACCOUNTS_DATA_KEY"] = ENVIRONMENT["ACCOUNTS_DATA_KEY"]
    run("rotate-key")
    for account in command.stored().accounts:
        run("disable", account.id)
        run("enable", account.id)
    return printed


def spellings(secret: str) -> set[str]:
    """As it is, percent-encoded, escaped, in hexadecimal, and in base64 wherever it may begin in what is encoded."""
    raw = secret.encode()
    found = {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], raw.hex(), raw.hex().upper()}
    for shift in range(3):
        # The first and last characters also depend on what stands beside the secret.
        body = raw[-shift % 3 :]
        body = body[: len(body) // 3 * 3]
        found |= {base64.b64encode(body).decode(), base64.urlsafe_b64encode(body).decode()}
    return found


def leaks(output: str, secrets: tuple[str, ...]) -> list[str]:
    return [secret for secret in secrets if any(spelling in output for spelling in spellings(secret))]


def found_in(places: dict[str, bytes]) -> dict[str, list[str]]:
    """By place, which of the planted secrets are there."""
    names = {secret: name for name, secret in planted().items()}
    found = {
        place: [names[secret] for secret in leaks(content.decode(errors="replace"), tuple(names))]
        for place, content in places.items()
    }
    return {place: secrets for place, secrets in found.items() if secrets}
