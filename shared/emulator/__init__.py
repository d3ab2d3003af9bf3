"""The offline Gemini: real wire format, real limits, scripted faults. Not in the deployed bundle."""
