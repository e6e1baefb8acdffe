"""Disks that fail: small ones, read-only ones, and a C library whose `write` and `fsync` fail when they are told to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Ballast", "FailingDisk", "failing_disk", "read_only", "small_disk"]

ROOT = Path(__file__).parents[1]


def _mount(*arguments: str | Path) -> str:
    """Mount something; why it was not possible, or nothing."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        return "there is no `mount` of Linux here"
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def small_disk(folder: Path, size: str = "64k") -> Iterator[Path]:
    """A disk of its own (tmpfs) with so much room; skips where none can be mounted, and says why."""
    folder.mkdir(exist_ok=True)
    reason = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    if reason:
        pytest.skip(f"a small disk cannot be mounted here: {reason}; the tests with a failing C library do the same")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """A file that takes up the room of a disk, and gives it back."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ballast"

    def fill(self) -> None:
        """Take all the room there is."""
        with self.path.open("ab", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def release(self) -> None:
        """Give the room back."""
        self.path.unlink(missing_ok=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder in which nothing can be written: for root by a read-only mount, which permission bits do not stop."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield folder
        finally:
            folder.chmod(0o755)
        return
    reason = _mount("--bind", folder, folder) or _mount("-o", "remount,bind,ro", folder)
    if reason:
        pytest.skip(f"a folder cannot be made read-only for root here: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The file named by DISK_FAULTS says what fails, for files whose path holds DISK_FAULTS_ON, one fault a line:
     room N      a file takes N bytes in all; a write beyond is short, and where there is no room left it is ENOSPC
     write E     every write fails with the error number E
     fsync E     every flush fails with E
     slow N      a flush takes N ms
     log P       the path of each file and folder that is flushed becomes a line of P
     keep P      what a file held when a flush began is copied to P when it ends: what a power cut would leave */

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void find(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
}

static int find_path(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 4095);
    if (n > 0) path[n] = 0;
    return n > 0;
}

static int is_concerned(int fd) {
    char path[4096];
    const char *on = getenv("DISK_FAULTS_ON");
    return on && find_path(fd, path) && strstr(path, on) != NULL;
}

static int fault(const char *name, char *argument) {
    const char *path = getenv("DISK_FAULTS");
    char line[4096];
    int found = 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        size_t n = strlen(name);
        if (!strncmp(line, name, n) && line[n] == ' ') { strcpy(argument, line + n + 1); found = 1; }
    }
    fclose(file);
    return found;
}

ssize_t write(int fd, const void *data, size_t n) {
    char argument[4096];
    if (!is_concerned(fd)) return real_write(fd, data, n);
    if (fault("write", argument)) { errno = atoi(argument); return -1; }
    if (fault("room", argument)) {
        struct stat now;
        fstat(fd, &now);
        long left = atol(argument) - (long)now.st_size;
        if (left <= 0) { errno = ENOSPC; return -1; }
        if ((size_t)left < n) n = left;
    }
    return real_write(fd, data, n);
}

static int flush(int fd, int (*real)(int)) {
    char argument[4096], path[64], *kept = NULL;
    size_t n = 0;
    char flushed[4096];
    if (fault("log", argument) && find_path(fd, flushed)) {
        FILE *log = fopen(argument, "a");
        fprintf(log, "%s\n", flushed);
        fclose(log);
    }
    if (!is_concerned(fd)) return real(fd);
    if (fault("fsync", argument)) { errno = atoi(argument); return -1; }
    struct stat now;
    fstat(fd, &now);
    if (S_ISREG(now.st_mode) && fault("keep", argument)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int in = open(path, O_RDONLY);
        kept = malloc(now.st_size + 1);
        ssize_t got = pread(in, kept, now.st_size, 0);
        n = got < 0 ? 0 : got;
        close(in);
    }
    char milliseconds[4096];
    if (fault("slow", milliseconds)) {
        long ms = atol(milliseconds);
        struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&wait, NULL);
    }
    int done = real(fd);
    if (kept) {
        int out = open(argument, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (real_write(out, kept, n) < 0) abort();
        close(out);
        free(kept);
    }
    return done;
}

int fsync(int fd) { return flush(fd, real_fsync); }
int fdatasync(int fd) { return flush(fd, real_fdatasync); }
"""


class FailingDisk:
    """Programs that run on a disk that fails as `faults` says, for files whose path holds `on`.

    Args:
        library: The compiled C library.
        folder: For the file that tells it what fails.
        on: A part of the paths that are concerned.
    """

    def __init__(self, library: Path, folder: Path, on: str) -> None:
        self.faults = folder / "faults"
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "DISK_FAULTS": str(self.faults),
            "DISK_FAULTS_ON": on,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
        }

    def set(self, *faults: str) -> None:
        """What fails from now on: lines such as "room 4000" or "fsync 5"; without any, nothing."""
        new = self.faults.with_suffix(".new")
        new.write_text("".join(f"{fault}\n" for fault in faults))
        new.replace(self.faults)

    def run(self, code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """Run a Python program to its end; in it `faults("fsync 5")` sets faults, and `faults()` lifts them."""
        return subprocess.run(
            self.command(code, *arguments), env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    def command(self, code: str, *arguments: Any) -> list[str]:
        """The command that runs a Python program."""
        return [sys.executable, "-c", _HEAD + code, *map(str, arguments)]


_HEAD = """
import os, sys
from pathlib import Path
def faults(*lines):
    path = Path(os.environ["DISK_FAULTS"])
    new = path.with_suffix(".new")
    new.write_text("".join(line + "\\n" for line in lines))
    new.replace(path)
"""


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C library of disks that fail, compiled once; see `FailingDisk`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a disk that fails is a C library of Linux, compiled here, and there is no C compiler (`cc`)")
    folder = tmp_path_factory.mktemp("failing_disk")
    source, library = folder / "disk.c", folder / "disk.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
