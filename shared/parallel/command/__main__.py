"""`python -m gemini_parallel.command`: the same as the command `gemini-parallel`."""

from .main import main

raise SystemExit(main())
