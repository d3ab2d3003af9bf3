"""The batch library under load: many prompts at a limit, beside gateways, and bound by tokens."""
