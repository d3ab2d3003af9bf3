"""`python -m shared.ledger show|reset`: see `shared.ledger_command`."""

from shared.ledger_command import run

run()
