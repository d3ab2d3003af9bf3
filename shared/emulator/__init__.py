"""The offline Gemini: real wire format, real limits, scripted faults. Not in the deployed bundle."""

from .app import App, create_app
from .config import ConfigError, EmulatorConfig, Limits, Project
from .running import Emulator, running

__all__ = ["App", "ConfigError", "Emulator", "EmulatorConfig", "Limits", "Project", "create_app", "running"]
