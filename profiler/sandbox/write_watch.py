"""Asks before a process changes the file system: seccomp's user notification.

A filter in the watched processes lets every system call pass but those that open a file for writing
or change a name; these wait until this process has kept what is there. Reads cost nothing. Native
code is seen as well, and no rights are needed (kernel 5.5).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainprof.profiler.sandbox.journal import Journal

PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
RECEIVE, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
ANSWER = struct.Struct("=QqiI")
AT_FDCWD = -100
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LONGEST_PATH, PAGE = 4096, 4096
SIGN_OF_LIFE_S = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that changes the file system.

    Attributes:
        numbers: By machine. paths: Places of (folder, path) among the arguments; no folder: None.
        follows: Whether a link as the last part is followed.
        flags: Place of the flags that say whether a file is opened for writing.
        whole: Whether it takes all that is in a folder along.
    """

    numbers: dict[str, int]
    paths: tuple[tuple[int | None, int], ...]
    follows: bool = False
    flags: int | None = None
    whole: bool = False


def _both(x86: int | None, arm: int | None) -> dict[str, int]:
    numbers = {"x86_64": x86, "aarch64": arm}
    return {name: number for name, number in numbers.items() if number is not None}


CALLS = (
    Call(_both(257, 56), ((0, 1),), True, 2),  # openat
    Call(_both(2, None), ((None, 0),), True, 1),  # open
    Call(_both(437, 437), ((0, 1),), True),  # openat2
    Call(_both(85, None), ((None, 0),), True),  # creat
    Call(_both(76, 45), ((None, 0),), True),  # truncate
    Call(_both(82, None), ((None, 0), (None, 1)), whole=True),  # rename
    Call(_both(264, 38), ((0, 1), (2, 3)), whole=True),  # renameat
    Call(_both(316, 276), ((0, 1), (2, 3)), whole=True),  # renameat2
    Call(_both(87, None), ((None, 0),)),  # unlink
    Call(_both(263, 35), ((0, 1),)),  # unlinkat
    Call(_both(84, None), ((None, 0),)),  # rmdir
    Call(_both(83, None), ((None, 0),)),  # mkdir
    Call(_both(258, 34), ((0, 1),)),  # mkdirat
    Call(_both(133, None), ((None, 0),)),  # mknod
    Call(_both(259, 33), ((0, 1),)),  # mknodat
    Call(_both(86, None), ((None, 1),)),  # link
    Call(_both(265, 37), ((2, 3),)),  # linkat
    Call(_both(88, None), ((None, 1),)),  # symlink
    Call(_both(266, 36), ((1, 2),)),  # symlinkat
    Call(_both(90, None), ((None, 0),), True),  # chmod
    Call(_both(268, 53), ((0, 1),), True),  # fchmodat
    Call(_both(452, 452), ((0, 1),), True),  # fchmodat2
    Call(_both(92, None), ((None, 0),), True),  # chown
    Call(_both(94, None), ((None, 0),)),  # lchown
    Call(_both(260, 54), ((0, 1),), True),  # fchownat
    Call(_both(280, 88), ((0, 1),), True),  # utimensat
)
MACHINES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}
"""Name -> its number in the kernel, and that of the system call seccomp."""


class Unwatchable(OSError):
    """The system does not allow it."""


def filter_program(machine: str) -> list[tuple[int, int, int, int]]:
    """The instructions (code, jump if true, jump if false, value) of the filter."""
    number, _ = MACHINES[machine]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, number), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 0)]
    for call in CALLS:
        if machine not in call.numbers:
            continue
        if call.flags is None:
            program += [(EQUAL, 0, 1, call.numbers[machine]), (RETURN, 0, 0, NOTIFY)]
        else:
            program += [
                (EQUAL, 0, 5, call.numbers[machine]),
                (LOAD, 0, 0, 16 + 8 * call.flags),
                (AND, 0, 0, WRITES),
                (EQUAL, 0, 1, 0),
                (RETURN, 0, 0, ALLOW),
                (RETURN, 0, 0, NOTIFY),
            ]
    return [*program, (RETURN, 0, 0, ALLOW)]


def run_journalled(journal: Journal, command: Sequence[str]) -> int:
    """The status of the command as subprocess gives it; the journal hears each path first.

    Args:
        journal: An OSError that it raises becomes that of the system call, which is not carried
            out.
        command: Arguments of the program.

    Raises:
        Unwatchable: the system does not allow it.
    """
    if platform.machine() not in MACHINES:
        raise Unwatchable(0, f"system calls cannot be watched on {platform.machine()}")
    ours, theirs = socket.socketpair()
    install = _installer(theirs)
    try:
        process = subprocess.Popen(list(command), preexec_fn=install)
    except subprocess.SubprocessError:
        raise Unwatchable(0, "the system refused to have its calls watched") from None
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
    ours.close()
    listener = descriptors[0]
    try:
        return _attend(process, listener, journal)
    finally:
        os.close(listener)


def _installer(sender: socket.socket) -> Callable[[], None]:
    """What the child does before it becomes the command: all is made ready before the fork."""
    machine = platform.machine()
    program = filter_program(machine)
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(
        struct.pack("@HP", len(program), ctypes.addressof(buffer)), struct.calcsize("@HP")
    )
    libc = ctypes.CDLL(None, use_errno=True)
    _, seccomp = MACHINES[machine]

    def install() -> None:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener = libc.syscall(
            seccomp, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(head), ctypes.byref(buffer)
        )
        if listener < 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        socket.send_fds(sender, [b"x"], [listener])
        os.close(listener)

    return install


def _attend(process: subprocess.Popen[bytes], listener: int, journal: Journal) -> int:
    """Answers until the command has ended; what it leaves behind waits in vain, and is killed."""
    poll = select.poll()
    end = os.pidfd_open(process.pid)
    poll.register(listener, select.POLLIN)
    poll.register(end, select.POLLIN)
    calls = {
        call.numbers[platform.machine()]: call
        for call in CALLS
        if platform.machine() in call.numbers
    }
    try:
        alive_s = 0.0
        while True:
            ready = dict(poll.poll(1000 * SIGN_OF_LIFE_S))
            if time.monotonic() - alive_s > SIGN_OF_LIFE_S:
                journal.touch()
                alive_s = time.monotonic()
            if ready.get(listener, 0) & select.POLLIN:
                _answer(listener, calls, journal)
            elif end in ready:
                return process.wait()
    finally:
        os.close(end)


def _answer(listener: int, calls: dict[int, Call], journal: Journal) -> None:
    buffer = bytearray(NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, RECEIVE, buffer)
    except OSError:  # it was killed meanwhile
        return
    identity, pid, _, number, _, _, *arguments = NOTIFICATION.unpack(buffer)
    error = 0
    try:
        for path in _paths(pid, calls[number], arguments):
            journal.keep(path, whole=calls[number].whole)
    except OSError as problem:
        error = -(problem.errno or 5)
    answer = bytearray(ANSWER.pack(identity, 0, error, 0 if error else CONTINUE))
    try:
        fcntl.ioctl(listener, SEND, answer)
    except OSError:  # it was killed meanwhile
        return


def _paths(pid: int, call: Call, arguments: Sequence[int]) -> list[str]:
    """The paths that a call changes, absolute and without links on the way."""
    found = []
    for folder, place in call.paths:
        text = _text(pid, arguments[place])
        if not text:  # the call will fail by itself, or means an open file
            continue
        if not text.startswith("/"):
            number = AT_FDCWD if folder is None else ctypes.c_int(arguments[folder]).value
            name = "cwd" if number == AT_FDCWD else f"fd/{number}"
            text = f"{os.readlink(f'/proc/{pid}/{name}')}/{text}"
        found.append(resolved(text, follows=call.follows))
    return found


def resolved(path: str, *, follows: bool) -> str:
    """The path without links on the way; a link as the last part is followed or not."""
    if follows:
        return os.path.realpath(path)
    folder, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), name)


def _text(pid: int, address: int) -> str:
    """The string at an address of another process."""
    if not address:
        return ""
    data = b""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        while len(data) < LONGEST_PATH:
            at = address + len(data)
            block = os.pread(memory, PAGE - at % PAGE, at)
            head, zero, _ = block.partition(b"\0")
            data += head
            if zero or not block:
                break
    finally:
        os.close(memory)
    return os.fsdecode(data)
