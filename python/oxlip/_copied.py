"""Copying and pickling objects of the classes that have a native half."""

from __future__ import annotations

import copyreg
from typing import Any

from ._stock import maker_of


class Copied:
    """What copies and pickles get: asyncio's class and its attributes, which are native here."""

    _ATTRIBUTES: tuple[str, ...] = ()
    # Those of them that the class is made with.
    _ARGUMENTS: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        ours = type(self)
        arguments = tuple(getattr(self, name) for name in self._ARGUMENTS)
        state = self.__getstate__()
        if (stock := maker_of(ours)) is not None:
            # Then it is ours where it is read too, or works without us.
            return stock, arguments, state
        return copyreg.__newobj__, (ours, *arguments), state  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self._ATTRIBUTES if hasattr(self, name)}
        # asyncio has it on the object only when that has waited.
        if (event_loop := getattr(self, "_loop", None)) is not None:
            state["_loop"] = event_loop
        for name in copyreg._slotnames(type(self)):  # type: ignore[attr-defined]
            if hasattr(self, name):
                state[name] = getattr(self, name)
        return state | vars(self)

    def __setstate__(self, state: Any) -> None:
        # Also that of an object that asyncio's class has made.
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                setattr(self, name, value)
