"""Compressed files: which those are, how they are read, and how they are written."""

from __future__ import annotations

import zlib

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from gzip import BadGzipFile, GzipFile
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from eventport.errors import ConfigurationError


class Compression(NamedTuple):
    """A format of compressed files."""

    name: str
    ending: str
    """How the names of its files end."""
    damage: tuple[type[Exception], ...]
    """What reading raises if a file is damaged or incomplete."""
    open: Callable[[BinaryIO, str], Any]
    """Opens a file in such a format for reading or writing, over one of bytes."""


def find_compression(file: BinaryIO) -> Compression | None:
    """Return how a file is compressed, by its first bytes; it stays where it is."""
    start = file.tell()
    first = file.read(4)
    file.seek(start)
    if first.startswith(b"\x1f\x8b"):
        return _GZIP
    # The second form begins with a frame to skip, as parallel compressors write it.
    if first == b"\x28\xb5\x2f\xfd" or (first[1:] == b"\x2a\x4d\x18" and first[0] >> 4 == 5):
        return _zstandard()
    return None


@contextmanager
def compressing(path: Path, file: BinaryIO) -> Generator[BinaryIO]:
    """Compress what is written to a file, if its name ends as those of compressed files do."""
    kind = compression_of(path)
    if kind is None:
        yield file
    else:
        with closing(kind.open(file, "wb")) as compressed:
            yield compressed


def compression_of(path: Path) -> Compression | None:
    """Return how a file of this name is to be compressed.

    Raises:
        ConfigurationError: the extra for that is not installed.
    """
    if path.suffix == _GZIP.ending:
        return _GZIP
    return _zstandard() if path.suffix == _ZSTANDARD_ENDING else None


def _open_gzip(file: BinaryIO, mode: str) -> GzipFile:
    # Without name and time, so that equal events give equal files.
    return GzipFile(filename="", mode=mode, fileobj=file, mtime=0)


_GZIP: Final = Compression("gzip", ".gz", (BadGzipFile, EOFError, zlib.error), _open_gzip)
_ZSTANDARD_ENDING: Final = ".zst"


def _zstandard() -> Compression:
    library = _import_zstandard()
    damage = (EOFError, library.ZstdError)
    return Compression("zstd", _ZSTANDARD_ENDING, damage, library.ZstdFile)


def _import_zstandard() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # the first one is part of Python 3.14
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    message = "files compressed by zstd need an extra: python -m pip install 'eventport[zstd]'"
    raise ConfigurationError(message)
