"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from .errors import DataError

__all__ = ["PathLike", "atomic_path"]

PathLike: TypeAlias = "str | os.PathLike[str]"


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; rename it to `path` if the block succeeds.

    Readers see the old file or the whole new one, never a part.  Missing folders are made.

    Parameters
    ----------
    path : path
        The file to make or replace.

    Yields
    ------
    pathlib.Path
        A name in the same folder with the same suffix.

    Raises
    ------
    DataError
        If the folder cannot be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "new", "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     Path(folder, "new", "a.txt").read_text()
    'whole'
    """
    file = Path(path).expanduser()
    temporary = file.with_name(f".{file.stem}.{secrets.token_hex(4)}{file.suffix}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, file)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise DataError(
            f"writing {file}: expected a folder that can be written to, got: {error.strerror or error}. "
            "Choose another path, or mend the folder's permissions."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
