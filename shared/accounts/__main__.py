"""`python -m shared.accounts list|add|paste|test|...`: see `shared.ops.accounts_command`."""

from shared.bootstrap import accounts_desk
from shared.ops.accounts_command import run

run(accounts_desk)
