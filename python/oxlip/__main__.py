"""`python -m oxlip`: the same as the command `oxlip`."""

from __future__ import annotations

from ._cli import main

if __name__ == "__main__":
    main()
