"""The offline Gemini: Google's wire format, limits and errors. Not deployed. It changes when Gemini does."""

from .app import App, create_app
from .config import ConfigError, EmulatorConfig, Limits, Project
from .running import Emulator, running

__all__ = ["App", "ConfigError", "Emulator", "EmulatorConfig", "Limits", "Project", "create_app", "running"]
