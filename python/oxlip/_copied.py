"""Copying and pickling objects of the classes that have a native half."""

from __future__ import annotations

import copyreg
from typing import Any

from ._stock import maker_of


class Copied:
    """Copies and pickles by asyncio's class and its attributes, which are native here."""

    _ATTRIBUTES: tuple[str, ...] = ()
    # Those attributes that are arguments of the class.
    _ARGUMENTS: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        ours = type(self)
        arguments = tuple(getattr(self, name) for name in self._ARGUMENTS)
        state = self.__getstate__()
        if (stock := maker_of(ours)) is not None:
            # So it becomes ours where it is unpickled with us, and works without us.
            return stock, arguments, state
        return copyreg.__newobj__, (ours, *arguments), state  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self._ATTRIBUTES if hasattr(self, name)}
        # asyncio's objects have it only once they have waited.
        if (event_loop := getattr(self, "_loop", None)) is not None:
            state["_loop"] = event_loop
        for name in copyreg._slotnames(type(self)):  # type: ignore[attr-defined]
            if hasattr(self, name):
                state[name] = getattr(self, name)
        return state | vars(self)

    def __setstate__(self, state: Any) -> None:
        # Also the state of an object that asyncio's own class has made.
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                setattr(self, name, value)
