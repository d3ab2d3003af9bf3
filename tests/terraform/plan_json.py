"""`python -m tests.terraform.plan_json FILE`: the plan of everything as JSON, for scanners that read one."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from functions.bundle import TARGET, build
from tests.support.processes import ROOT
from tests.support.terraform import OfflineMissing, Terraform, offline_folder, stage


def main(arguments: Sequence[str]) -> int:
    """0 without a file where TERRAFORM_OFFLINE is not set: there is nothing to plan with."""
    try:
        offline = offline_folder()
    except OfflineMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    if offline is None:
        print("TERRAFORM_OFFLINE is not set, so there is no plan to scan.")
        return 0
    build(ROOT, ROOT / TARGET)
    with tempfile.TemporaryDirectory() as folder:
        checkout = stage(Path(folder) / "checkout")
        plan = Terraform(offline, Path(folder) / "home").plan(checkout)
    target = Path(arguments[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
