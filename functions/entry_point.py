"""The bundle's main.py: what every deployed function starts with. Imports only the function that FUNCTION_TARGET names."""

import importlib
import os
from pathlib import Path

from shared.settings.settings import Settings, SettingsError

target = os.environ.get("FUNCTION_TARGET", "")
names = sorted(file.parent.name for file in Path(__file__).parent.glob("functions/*/endpoint.json"))
if target not in names:
    raise SystemExit(f"FUNCTION_TARGET is {target!r}; it must be one of {', '.join(names)}.")
try:
    # A revision with a wrong setting must not become ready: the platform then keeps the one before.
    Settings.from_environment(os.environ)
except SettingsError as error:
    raise SystemExit(str(error)) from None
globals()[target] = getattr(importlib.import_module(f"functions.{target}.main"), target)
