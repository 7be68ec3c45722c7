"""How a command ends: an error is one sentence and exit code 2, a closed pipe changes nothing, Ctrl-C always works.

Exit code 1 belongs to violated bounds alone. `GAUNLEARN_TRACEBACK=1` shows where an unforeseen error comes from.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO

#: seconds after Ctrl-C in which Python, held up by a compiler, may still stop by itself
PATIENCE = 1.0
#: exit code after Ctrl-C
INTERRUPTED = 130
TRACEBACK = "GAUNLEARN_TRACEBACK"


def ended(command: Callable[[], int]) -> int:
    """The exit code of the command, or of the error that ended it, which is told in one sentence."""
    out = sys.stdout
    sys.stdout = _UntilClosed(out)
    try:
        code = _told(command)
        sys.stdout.flush()
        return code
    except OSError as error:  # the last of the output did not go out
        _discard(out)
        return _say(f"the output could not be written ({error.strerror}); what goes to files is complete")
    finally:
        sys.stdout = out


def _told(command: Callable[[], int]) -> int:
    try:
        return command()
    except KeyboardInterrupt:
        _say("interrupted, nothing was written")
        return INTERRUPTED
    except ValueError as error:
        return _say(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _say(f"{error.strerror or error}: {error.filename}; choose another --out, or another file")
    except MemoryError as error:
        return _say(f"out of memory ({str(error) or 'no detail'}); take fewer lanes at once (--chunk) or fewer points")
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return _say(_no_device() or _unforeseen(error))


def _say(sentence: str) -> int:
    with contextlib.suppress(OSError, ValueError):  # no one listens
        print(f"gaunlearn: {sentence}", file=sys.stderr)
    return 2


def _no_device() -> str | None:
    """The sentence for a platform without a device; None where JAX has one or was never asked."""
    jax: Any = sys.modules.get("jax")
    if jax is None:
        return None
    try:
        jax.devices()
        return None
    except Exception:
        asked = os.environ.get("JAX_PLATFORMS", "")
        return (
            f"JAX has no device of the platform that JAX_PLATFORMS={asked} asks for; unset it, or install JAX for that "
            "platform (extras `cuda`, `tpu`)"
        )


def _unforeseen(error: Exception) -> str:
    """The kind of error, its first line, and the last place in a file that is not an installed package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")] or frames
    where = f"{os.path.basename(own[-1].filename)}, line {own[-1].lineno}" if own else "an unknown place"
    text = (str(error).strip().split("\n") or [""])[0][:200]
    return (
        f"stopped by an unforeseen {type(error).__name__}{': ' * bool(text)}{text} ({where}); no verdict was reached, "
        f"set {TRACEBACK}=1 to see the whole path"
    )


class _UntilClosed(io.TextIOBase):
    """A stream whose reader may leave: from then on everything is thrown away, and the command goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or throw away."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            _discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or throw away."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            _discard(self._stream)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self._stream.encoding

    def close(self) -> None:
        """The stream is not this object's to close."""


def _discard(stream: TextIO) -> None:
    """Let the descriptor lead nowhere, so that what is still buffered meets no second error."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def interruptible(command: Callable[[], int]) -> int:
    """The command's exit code, with a Ctrl-C that stops it also where Python would lose or delay it.

    An interrupt that lands in a destructor or a callback of the compiler is ignored by Python: it is raised again. One
    that has to wait for compiled code is acknowledged after a second, and a second one ends the process at once;
    results on disk are sealed part by part and stay.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        return command()
    watch = _Watch()
    hook_before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            watch.again()
        else:
            hook_before(lost)

    sys.unraisablehook = hook
    try:
        code = command()
    finally:
        sys.unraisablehook = hook_before
        watch.end()
    if code == INTERRUPTED:  # threads that still compile would be waited for
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(INTERRUPTED)
    return code


class _Watch:
    """A thread that hears every interrupt when it arrives, whatever the interpreter is held up by."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._ended = threading.Event()
        self._own = 0
        self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def again(self) -> None:
        """Raise an interrupt that was lost, once its place is left; it is no second one."""
        self._own += 1
        main = threading.main_thread().ident  # the one whose sleep must end
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()

    def end(self) -> None:
        """Stop listening."""
        self._ended.set()
        signal.set_wakeup_fd(self._before)
        self._theirs.close()
        self._thread.join()
        self._ours.close()

    def _listen(self) -> None:
        pressed = 0
        while data := self._ours.recv(16):
            pressed += data.count(signal.SIGINT)
            if pressed - self._own > 1:
                os._exit(INTERRUPTED)
            if pressed == 1 and not self._ended.wait(PATIENCE):
                _say("interrupted; compiled code must end first, press Ctrl-C again to stop at once")
