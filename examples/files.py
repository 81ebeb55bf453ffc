"""Files without blocking the loop: counts the words of some files, all at once.

python examples/files.py [FILE …]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import oxlip


async def count(path: Path) -> int:
    words = 0
    async with oxlip.open(path, encoding="utf-8") as f:
        async for line in f:
            words += len(line.split())
    return words


async def write_some(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.txt" for number in range(3)]
    for number, path in enumerate(paths):
        async with oxlip.open(path, "w", encoding="utf-8") as f:
            await f.writelines(["some words\n"] * (number + 1))
    return paths


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]] or await write_some(Path(folder))
        counts = await asyncio.gather(*map(count, paths))
    for path, words in zip(paths, counts, strict=True):
        print(f"{words:8} {path.name}")


if __name__ == "__main__":
    oxlip.run(main())
