"""What an operator sees of the whole: health, and the ledger's command. It changes when an operator's questions do."""
