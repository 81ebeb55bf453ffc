"""What a cancelled read has taken from a file that cannot seek: the next read gets it first.

For pipes and terminals, and for text that is read in a thread. `_file_work.py` uses it, on the
thread of the file's loop.
"""

from __future__ import annotations

from typing import Any


class Kept:
    """What was read, and has been returned to nobody."""

    def __init__(self, line_end: bytes | str | None, is_buffered: bool) -> None:
        # None: any of a text file's.
        self._line_end = line_end
        self._is_buffered = is_buffered
        self._data: Any = None

    def __bool__(self) -> bool:
        return bool(self._data)

    def add(self, result: Any) -> None:
        """Keeps the result of a method."""
        if isinstance(result, list):
            result = result[0][:0].join(result) if result else None
        if result:
            self._data = self._data + result if self._data else result

    def drop(self) -> None:
        """Forgets everything: the file's position has changed."""
        self._data = None

    def take(self, name: str, size: int) -> tuple[Any, bool]:
        """The part of it that the method may return, and whether that completes the result."""
        data = self._data
        if name == "peek":
            return data, True
        end = len(data) if size < 0 else min(size, len(data))
        complete = name == "read1" or (name == "read" and not self._is_buffered and size >= 0)
        if name == "readline" and (line := self._line(data)) and line <= end:
            end = line
            complete = True
        self._data = data[end:]
        return data[:end], complete or 0 <= size <= end

    def _line(self, data: Any) -> int:
        """The length of the first line if all of it is here, else 0."""
        if self._line_end is not None:
            place: int = data.find(self._line_end)
            return place + len(self._line_end) if place >= 0 else 0
        places: list[int] = [it for it in (data.find("\n"), data.find("\r")) if it >= 0]
        if not places:
            return 0
        first = min(places)
        return first + (2 if data[first : first + 2] == "\r\n" else 1)
