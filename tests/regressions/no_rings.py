"""A process that may not have io_uring, as in a container, or not any more: see test_no_rings.py.

no_rings.py setup|enter
"""

import asyncio
import ctypes
import errno
import os
import struct
import sys

import oxlip
from oxlip import _doctor

# The same numbers on every architecture.
SYSTEM_CALLS = {"setup": 425, "enter": 426}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSE, ALLOW = 0x00050000 | errno.EPERM, 0x7FFF0000

FILTER = b"".join(
    struct.pack("HBBI", *statement)
    for statement in (
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, SYSTEM_CALLS[sys.argv[1]]),
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


async def which() -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, oxlip.EventLoop)
    return f"{loop.driver}: {loop._driver_reason}"


def never() -> None:
    refuse()
    print(oxlip.run(which()))
    print(oxlip.run(which(), driver="io_uring"))
    os.environ["OXLIP_DRIVER"] = "io_uring"
    print(oxlip.run(which()))
    print(*_doctor.drivers(), sep="\n")


def no_more() -> None:
    loop = oxlip.EventLoop("io_uring")
    print(loop.driver)
    refuse()
    loop.run_until_complete(asyncio.sleep(0.001))
    print(loop.driver)
    loop.close()
    print(loop.driver)


if sys.argv[1] == "setup":
    never()
else:
    no_more()
