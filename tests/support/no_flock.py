"""Runs a command as on a file system without flock: the kernel answers ENOSYS, to it and all it starts."""

import ctypes
import errno
import os
import struct
import sys

SYSCALL = {"x86_64": 73, "aarch64": 32}[os.uname().machine]
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN, _ALLOW, _ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def main() -> None:
    answer = getattr(errno, sys.argv[1])
    steps = ((_LOAD, 0, 0, 0), (_EQUAL, 0, 1, SYSCALL), (_RETURN, 0, 0, _ERRNO | answer), (_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        sys.exit(f"no seccomp filter here: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
