"""What the bare disk takes for an append that lasts, and what files take of it."""

import os
import time

APPEND_BYTES = 128


class Log:
    """A file that grows with each append, or whose blocks are all written before."""

    def __init__(self, path, preallocated_bytes=0):
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._at = 0
        if preallocated_bytes:
            os.pwrite(self._file, bytes(preallocated_bytes), 0)
            os.fsync(self._file)

    def append(self):
        """One append with its fdatasync; the seconds that both took."""
        begin = time.perf_counter()
        os.pwrite(self._file, b"x" * APPEND_BYTES, self._at)
        os.fdatasync(self._file)
        self._at += APPEND_BYTES
        return time.perf_counter() - begin

    def close(self):
        os.close(self._file)
        os.unlink(self._path)


def sync(path):
    """Waits until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def taken_bytes(directory):
    """What the files of a directory take up: blocks, because some are made larger than what is in them."""
    taken = 0
    for place, _, names in os.walk(directory):
        for name in names:
            taken += os.stat(os.path.join(place, name)).st_blocks * 512
    return taken


def file_system(directory):
    """The type of the file system that a directory is on."""
    best, kind = "", "unknown"
    path = os.path.realpath(directory)
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, place, its_kind, *_ = line.split()
            if os.path.commonpath([path, place]) == place and len(place) >= len(best):
                best, kind = place, its_kind
    return kind
