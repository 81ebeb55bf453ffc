"""A process that may not have io_uring, as in a container: see test_no_rings.py."""

import asyncio
import ctypes
import errno
import struct

import oxlip

# The same number on every architecture.
IO_URING_SETUP = 425
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSE, ALLOW = 0x00050000 | errno.EPERM, 0x7FFF0000

FILTER = b"".join(
    struct.pack("HBBI", *statement)
    for statement in (
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    )
)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse() -> None:
    prctl = ctypes.CDLL(None).prctl
    code = ctypes.create_string_buffer(FILTER)
    program = Program(4, ctypes.addressof(code))
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0


refuse()
try:
    oxlip.EventLoop(driver="io_uring")
except PermissionError as error:
    print(error)


async def which() -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, oxlip.EventLoop)
    return loop.driver


print(oxlip.run(which()))
