"""`python -m functions.check_config FILE`: lists everything that is wrong with a configuration, before it is deployed.

FILE is an environment like .env, or Terraform's variables (*.tfvars). Each problem is one sentence: the name, what is wrong,
and what to do. The exit status is 0 without problems, 1 with problems, and 2 if FILE cannot be read. No secret is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson
from dotenv import dotenv_values

from shared.gemini.models import RETIRED
from shared.http.manifest import Manifest, load_all
from shared.settings.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parents[1]
_MAX_PROBLEMS = 100
_NAME = re.compile(r"[A-Z][A-Z0-9_]+")
_KEY = re.compile(r"GEMINI_API_KEY(_\d{1,4})?")
_PROJECT_OF_KEY = re.compile(r"GEMINI_API_KEY(_\d{1,4})?_PROJECT")
_SECRET_NAME = re.compile(r"API_KEY(_\d+)?$")
_LOCAL_ONLY = {"HOST", "PORT", "WORKERS"}
_STAND_IN_KEY = "AIzaSyStandInForAKeyOfSecretManager"
"""Stands for a key whose value is in Secret Manager, so that everything else can be checked."""


class UnreadableFile(Exception):
    """The file's content is not what its name promises. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """terraform/bounds.json, which Terraform reads too."""

    answer_s: float
    """What a function needs beside REQUEST_TIMEOUT_SECONDS to send its response."""
    store_s: float
    """The same, where it also stores what was made."""
    request_timeout_s: float
    comfortable_writers: int
    max_writers: int
    """With more, instances that write to one ledger document slow each other down (shared/ledger/README.md)."""
    many_requests_at_once: int
    max_instances: Mapping[str, int]
    """By default: of a function with `many_requests` at once, else of a `writer`, else of any `other`."""
    reserved_settings: Sequence[str]
    secret_settings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Config:
    """What a file configures. `env`: the settings, as a function would get them. `overrides`: function -> what differs from
    its endpoint.json. `deployed`: Terraform's variables rather than a local environment."""

    env: Mapping[str, str]
    key_projects: Mapping[str, str | None] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    deployed: bool = False
    unknown: tuple[str, ...] = ()
    """Problems that were found while the file was read."""


def problems_of(config: Config, manifests: Sequence[Manifest], known: set[str], bounds: Bounds) -> list[str]:
    """One sentence per problem. `known`: every name that the settings read."""
    found = [
        *config.unknown,
        *_unknown_names(config, known),
        *_wrong_values(config),
        *_shared_projects(config),
        *_retired_models(config),
        *_timeouts(config, manifests, bounds),
        *_anonymous_functions(config, manifests),
        *_instances(config, manifests, bounds),
    ]
    return found[:_MAX_PROBLEMS]


def _unknown_names(config: Config, known: set[str]) -> Iterator[str]:
    for name in config.env:
        if name in known or _KEY.fullmatch(name) or _PROJECT_OF_KEY.fullmatch(name):
            continue
        yield f"{name} is not a setting; {_way_out(name, known, 0.8)}"


def _way_out(name: str, known: Iterable[str], similarity: float) -> str:
    """The end of a sentence about an unknown name: the known name with at least this `similarity` (0 to 1), if any."""
    close = get_close_matches(name, known, 1, similarity)
    return f"did you mean {close[0]}?" if close else "remove it."


def _wrong_values(config: Config) -> Iterator[str]:
    """The settings reject one value at a time, so each rejected variable is removed to find the next one."""
    env = dict(config.env)
    while True:
        try:
            settings = Settings.from_environment(env)
        except SettingsError as error:
            yield str(error)
            named = [name for name in _NAME.findall(str(error)) if name in env]
            if not named:
                return
            del env[named[0]]
        else:
            if settings.warning and not config.deployed:
                yield settings.warning
            if settings.server_keys and not settings.admin_api_keys and not settings.allow_anonymous:
                yield (
                    "ADMIN_API_KEY is not set, so no caller can use the server's Gemini keys; set one "
                    "(openssl rand -base64 24), or name functions in ALLOW_ANONYMOUS."
                )
            if settings.queue_timeout_s > settings.request_timeout_s:
                yield (
                    f"QUEUE_TIMEOUT_SECONDS is {settings.queue_timeout_s:g}, longer than REQUEST_TIMEOUT_SECONDS "
                    f"({settings.request_timeout_s:g}); lower it to at most that."
                )
            return


def _shared_projects(config: Config) -> Iterator[str]:
    nameless = sorted(name for name, project in config.key_projects.items() if project is None)
    if len(nameless) < 2 and not (nameless and len(config.key_projects) > 1):
        return
    how = "name its project in gemini_api_keys" if config.deployed else f"set {nameless[0]}_PROJECT"
    name_no = "have no project, so each" if len(nameless) > 1 else "has no project, so it"
    yield (
        f"{' and '.join(nameless)} {name_no} is treated as a project of its own. If they are keys of one Google Cloud project, "
        f"which share its limits, Gemini will reject requests: {how}, for every key."
    )


def _retired_models(config: Config) -> Iterator[str]:
    named = [("GEMINI_MODEL_TYPE", config.env.get("GEMINI_MODEL_TYPE", "").strip())]
    try:
        limits = orjson.loads(config.env.get("GEMINI_LIMITS") or "{}")
    except orjson.JSONDecodeError:
        limits = {}  # Reported with the wrong values.
    named += [("GEMINI_LIMITS", model) for model in limits] if isinstance(limits, dict) else []
    for variable, model in named:
        if successor := RETIRED.get(model.removeprefix("models/")):
            yield f"{variable} names {model}, which Google has shut down; name its successor {successor}."


def _timeouts(config: Config, manifests: Sequence[Manifest], bounds: Bounds) -> Iterator[str]:
    try:
        request_s = float(config.env.get("REQUEST_TIMEOUT_SECONDS", "").strip() or bounds.request_timeout_s)
    except ValueError:
        return  # Reported with the wrong values.
    for manifest in manifests:
        if manifest.access == "public" or "GEMINI_API_KEY" not in manifest.secrets:
            continue
        needed_s = request_s + (bounds.store_s if manifest.storage == "write" else bounds.answer_s)
        timeout_s = config.overrides.get(manifest.name, {}).get("timeout_s") or manifest.timeout_s
        if timeout_s < needed_s:
            where = "in `functions`" if config.deployed else f"in functions/{manifest.name}/endpoint.json"
            yield (
                f"REQUEST_TIMEOUT_SECONDS is {request_s:g}, but the platform ends a request to {manifest.name} after "
                f"{timeout_s} s; set its timeout_s to {needed_s:g} {where}, or lower REQUEST_TIMEOUT_SECONDS."
            )


def _anonymous_functions(config: Config, manifests: Sequence[Manifest]) -> Iterator[str]:
    able = {manifest.name for manifest in manifests if manifest.access == "anonymous"}
    for item in config.env.get("ALLOW_ANONYMOUS", "").split(","):
        name = item.strip().replace("-", "_")
        if name and name not in able:
            yield (
                f"ALLOW_ANONYMOUS names {item.strip()}, which always requires a credential; "
                f"name only functions of these: {', '.join(sorted(able))}."
            )


def _instances(config: Config, manifests: Sequence[Manifest], bounds: Bounds) -> Iterator[str]:
    if not config.deployed:
        return
    names = {manifest.name for manifest in manifests}
    for name in sorted(config.overrides.keys() - names):
        yield f"functions has {name}, but there is no folder functions/{name}; {_way_out(name, names, 0.6)}"
    writers = {
        manifest.name: _max_instances(config, manifest, bounds) for manifest in manifests if manifest.store == "write"
    }
    total = sum(writers.values())
    if total > bounds.comfortable_writers:
        largest = max(writers, key=lambda name: writers[name])
        what = "more than" if total > bounds.max_writers else "close to"
        yield (
            f"max_instances of the functions that write to the ledger add up to {total}, {what} the {bounds.max_writers} that "
            f"one ledger supports (recommended: {bounds.comfortable_writers}); lower that of {largest} ({writers[largest]}), and "
            "raise its concurrency instead."
        )


def _max_instances(config: Config, manifest: Manifest, bounds: Bounds) -> int:
    """The value for a function that writes, as in terraform/functions.tf."""
    override = config.overrides.get(manifest.name, {})
    if given := override.get("max_instances"):
        return int(given)
    concurrency = override.get("concurrency") or manifest.concurrency
    return bounds.max_instances["many_requests" if concurrency >= bounds.many_requests_at_once else "writer"]


# -- files -------------------------------------------------------------------------------------------------------------


def known_settings() -> set[str]:
    """Every name in the package that reads the environment; terraform/functions.tf finds them in the same way."""
    sources = "\n".join(file.read_text() for file in (ROOT / "shared" / "settings").glob("*.py"))
    return set(re.findall(r'"([A-Z][A-Z0-9_]{3,})"', sources))


def read_bounds() -> Bounds:
    return Bounds(**orjson.loads((ROOT / "terraform/bounds.json").read_bytes()))


def read_env(path: Path) -> Config:
    env = {name: value for name, value in dotenv_values(path).items() if value is not None}
    keys = [name for name in env if _KEY.fullmatch(name) and env[name].strip()]
    return Config(env, {name: env.get(f"{name}_PROJECT", "").strip() or None for name in keys})


def read_tfvars(path: Path, bounds: Bounds) -> Config:
    """Raises UnreadableFile."""
    given = _hcl(path)
    variables = {name for one in _hcl(ROOT / "terraform/variables.tf")["variable"] for name in one}
    unknown = [
        f"{name} is not a variable of terraform/; {_way_out(name, variables, 0.7)}" for name in given.keys() - variables
    ]
    project = given.get("project_id")
    if not project:
        unknown.append('project_id is not set; set the id of the Google Cloud project, like "my-project-123456".')
    settings = {name: str(value) for name, value in (given.get("settings") or {}).items()}
    rejected = {name: why for name in settings if (why := _why_terraform_rejects(name, bounds))}
    unknown += [f"settings has {name}, which {why}" for name, why in rejected.items()]
    keys = given.get("gemini_api_keys", {"GEMINI_API_KEY": None}) or {}
    env = {name: value for name, value in settings.items() if name not in rejected}
    placed = {
        "K_SERVICE": "check",
        "GOOGLE_CLOUD_PROJECT": str(project or "check"),
        "ADMIN_API_KEY": _STAND_IN_KEY,
        **{name: f"{_STAND_IN_KEY}{number}" for number, name in enumerate(keys)},
        **{f"{name}_PROJECT": project for name, project in keys.items() if project},
    }
    return Config({**env, **placed}, keys, given.get("functions") or {}, deployed=True, unknown=tuple(sorted(unknown)))


def _why_terraform_rejects(setting: str, bounds: Bounds) -> str | None:
    """The end of a sentence about a known setting that terraform/variables.tf does not take in `settings`."""
    if setting in bounds.reserved_settings:
        return "Terraform sets itself; remove it."
    if setting in bounds.secret_settings:
        return "may hold a credential; name it in secret_settings instead, and add its value to Secret Manager."
    if _SECRET_NAME.search(setting):
        return "is a secret; remove it, and add its value to Secret Manager (gemini_api_keys names the Gemini keys)."
    if setting in _LOCAL_ONLY:
        return "only the local server reads; remove it."
    return None


def _hcl(path: Path) -> dict[str, Any]:
    # Imported on demand: only Terraform's files need it, and a deployed function has no such library.
    import hcl2
    from lark.exceptions import LarkError

    try:
        text = path.read_text()
        found = (
            orjson.loads(text) if path.suffix == ".json" else hcl2.loads(text if text.endswith("\n") else f"{text}\n")
        )
    except (OSError, ValueError, LarkError) as error:
        raise UnreadableFile(f"{path} cannot be read as Terraform variables: {str(error).splitlines()[0]}") from None
    result: dict[str, Any] = _plain(found)
    return result


def _plain(value: Any) -> Any:
    """Strings without the quotes that the parser leaves around them."""
    if isinstance(value, dict):
        return {_plain(name): _plain(one) for name, one in value.items() if not str(name).startswith("__")}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value


def main(arguments: Sequence[str]) -> int:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m functions.check_config", description=summary)
    what = ".env (the default), or a file of Terraform's variables"
    parser.add_argument("file", type=Path, nargs="?", default=ROOT / ".env", help=what)
    path = parser.parse_args(arguments).file
    if not path.is_file():
        sys.stderr.write(f"There is no file {path}; pass a .env file or a .tfvars file.\n")
        return 2
    try:
        bounds = read_bounds()
        config = read_tfvars(path, bounds) if ".tfvars" in path.name else read_env(path)
    except UnreadableFile as error:
        sys.stderr.write(f"{error}\n")
        return 2
    problems = problems_of(config, load_all(ROOT / "functions"), known_settings(), bounds)
    summary = f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in {path}."
    sys.stdout.write("".join(f"{line}\n" for line in (*problems, summary)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
