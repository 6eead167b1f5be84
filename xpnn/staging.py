"""Files that take their places in a folder together: all of them, or none.

They are written to a staging folder inside it.  `Staging.commit` writes a journal of what shall go where, and from then
on the new files count: whoever opens the folder next, after a kill too, moves what was not moved.  Before the journal
is whole nothing in the folder itself has changed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from .errors import DataError, FileFormatError
from .files import PathLike, atomic_path, parse_json, pass_on, pour

try:
    import fcntl
except ImportError:  # not a POSIX system: nobody is kept from writing to a folder twice at once
    fcntl = None  # type: ignore[assignment]

__all__ = ["STAGING", "Staging", "plan_of", "recover"]

#: Name of the staging folder within the folder that its files are for.
STAGING = ".unfinished"
_STATE, _LOCK = "state.json", "lock"
_COMMIT_SECONDS = 5.0  # so long a reader waits for another process that is moving files
_LOOK_SECONDS = 0.5  # and a writer for one that only looks whether there is a writer


class _BusyError(DataError):
    """Another process is writing to the folder."""


class Staging:
    """The staging folder of a folder, held by this process alone while it is entered.

    Parameters
    ----------
    folder : path
        Where the files shall be in the end; it is made where it is missing.

    Attributes
    ----------
    folder, path : pathlib.Path
        The folder, and the staging folder in it.
    plan : dict or None
        What is in the making, as `start` was told; None where nothing is.
    committed : bool
        Whether the files count, wherever they are by now.

    Raises
    ------
    DataError
        On entering, if another process is writing to the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Staging(folder) as staging:
    ...         staging.start({"made by": "an example"})
    ...         _ = (staging.path / "a.txt").write_text("new")
    ...         staging.commit(["a.txt"])
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['a.txt']
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self.path = self.folder / STAGING
        self.plan: dict[str, Any] | None = None
        self.committed = False
        self._lock = -1

    def __enter__(self) -> Staging:
        with contextlib.ExitStack() as undo:
            lock = _acquire(self.folder, _LOOK_SECONDS)
            undo.callback(os.close, lock)
            state = _read(self.folder)
            if "commit" in state:
                self._move(state)
                state = _read(self.folder)
            undo.pop_all()
        self._lock, self.plan = lock, state.get("plan")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.plan is None and not self.committed:
                self.discard()
        finally:
            os.close(self._lock)

    def start(self, plan: dict[str, Any]) -> None:
        """Note what is being made, JSON-able; files that lie here already belong to it."""
        self.plan, self.committed = plan, False
        _write(self.path, {"plan": plan})

    def clear(self) -> None:
        """Remove everything that an earlier process left here."""
        self.plan, self.committed = None, False
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.name not in (_STATE, _LOCK):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.path / _STATE).unlink(missing_ok=True)  # last: until then a kill leaves what can be known for what it is

    def discard(self) -> None:
        """Remove the staging folder."""
        with contextlib.suppress(FileNotFoundError):
            self.clear()
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def place(self, name: str) -> None:
        """Move a file to its place before the others: an older one passes on mode and owner, a link is followed."""
        source, path = self.path / name, self.folder / name
        target = Path(os.path.realpath(path))
        with contextlib.suppress(OSError):
            pass_on(target.stat(), source)
        if target.is_file() or not target.exists():
            try:
                os.replace(source, target)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            with atomic_path(path) as temporary:  # on another disk
                shutil.copyfile(source, temporary)
        else:  # a pipe or a device
            pour(source, target)
        source.unlink()

    def commit(self, files: Sequence[str], *, remove: Sequence[str] = (), keep: bool = False) -> None:
        """Move files of the staging folder to their places, and remove others there, together or not at all.

        What else lies in the staging folder goes with it; or, to `keep`, stays there with the plan.
        """
        for name in files:
            _sync(self.path / name)
        state = {"plan": self.plan, "commit": {"files": list(files), "remove": list(remove), "keep": keep}}
        _write(self.path, state)
        self.committed = True
        self._move(state)

    def _move(self, state: dict[str, Any]) -> None:
        """Do what the journal says, or what is left of it after a kill."""
        commit = state["commit"]
        for name in commit["files"]:
            if (self.path / name).exists():
                self.place(name)
        for name in commit["remove"]:
            (self.folder / name).unlink(missing_ok=True)
        _sync(self.folder)
        if commit["keep"]:
            self.plan = state["plan"]
            _write(self.path, {"plan": self.plan, "kept": True})
        else:
            self.discard()


def recover(folder: PathLike) -> Literal["running", "unfinished"] | None:
    """Finish a commit that was cut short, and tell what is being made in a folder: nothing, or nothing that counts yet.

    ``"running"`` is a process that is at work in it, ``"unfinished"`` one that has ended before its commit.  A
    `DataError` is raised if the folder cannot be written to and a commit is to be finished, a `FileFormatError` if its
    journal is damaged.
    """
    folder, state = Path(folder), _read(folder)
    deadline = time.monotonic() + _COMMIT_SECONDS
    while "commit" in state:
        try:
            with Staging(folder):
                pass
        except _BusyError:  # the one that writes will have moved all in a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        except OSError as error:
            raise DataError(
                f"{folder}: expected a folder that can be written to, for files of a run are still to take their "
                f"places, got: {error.strerror or error}. Mend the folder's permissions."
            ) from error
        state = _read(folder)
    if "plan" not in state or state.get("kept"):
        return None
    try:
        os.close(_acquire(folder))
    except _BusyError:
        return "running"
    except OSError:  # a folder that cannot be written to
        pass
    return "unfinished"


def plan_of(folder: PathLike) -> dict[str, Any] | None:
    """Return the plan of what was begun in a folder and can be gone on with; None where nothing is."""
    plan: dict[str, Any] | None = _read(Path(folder)).get("plan")
    return plan


def _acquire(folder: Path, seconds: float = 0.0) -> int:
    """Return a handle that holds the folder's lock; the system lets it go with the process, however that ends."""
    file = folder / STAGING / _LOCK
    deadline = time.monotonic() + seconds
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the one that held it has just removed it
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            with contextlib.suppress(FileNotFoundError):
                if _locked(handle) and os.path.samestat(os.fstat(handle), os.stat(file)):
                    return handle
            os.close(handle)
        if time.monotonic() > deadline and file.exists():
            raise _BusyError(
                f"{folder}: expected a folder that nothing else writes to, got one in which a training is running. "
                "Wait for its end, or choose another folder."
            )
        time.sleep(0.01)


def _locked(handle: int) -> bool:
    """Lock an open file, and tell whether that was possible; on a file system without locks it always is."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _read(folder: Path) -> dict[str, Any]:
    """Return the state of a folder's staging; empty where there is none."""
    file = folder / STAGING / _STATE
    try:
        state = parse_json(file.read_text(encoding="utf-8"))
        commit = state.get("commit", {"files": [], "remove": [], "keep": False})
        names = [*commit["files"], *commit["remove"]]
        whole = isinstance(state["plan"], dict) and isinstance(commit["keep"], bool)
        whole = whole and all(name == Path(name).name and not name.startswith(".") for name in names)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise FileFormatError(
            f"{file}: expected the state of a training, got a damaged file. Remove the folder {file.parent}."
        )
    return dict(state)


def _write(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path / _STATE) as temporary:
        temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
        _sync(temporary)
    _sync(path)


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk, where it can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
