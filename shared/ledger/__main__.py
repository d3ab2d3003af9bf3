"""`python -m shared.ledger show|reset`: see `shared.ops.ledger_command`."""

from shared.ops.ledger_command import run

run()
