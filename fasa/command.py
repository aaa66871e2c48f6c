"""What every command line of ours does with an error: one line, and an exit status."""

import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from fasa.errors import UserError
from fasa.files import readable_errors

Main = Callable[[Sequence[str] | None], int | None]


def command(main: Main) -> Callable[..., int]:
    """Let `main` end with one line on standard error, and no traceback, where the mistake is not ours.

    A UserError, an OSError (no room, no permission) and a MemoryError exit with 1, Ctrl-C with 130. SIGTERM
    is as orderly as Ctrl-C, so that temporary files are removed, and exits with 143. When the reader of a
    pipe goes away (``| head``) nothing is said; the status is 141, as a shell has it.

    Example:
        >>> @command
        ... def main(argv=None):
        ...     print("hello")
        >>> main()
        hello
        0
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        _open_streams()
        received = [signal.SIGINT]

        def terminate(number: int, _frame) -> None:
            received.append(number)
            raise KeyboardInterrupt

        in_main_thread = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, terminate) if in_main_thread else None
        try:
            with readable_errors("a file or standard output"):  # where the error names none
                status = main(argv) or 0
            with readable_errors("standard output"):
                sys.stdout.flush()
            return status
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                _discard_output()
            if isinstance(error.__cause__, BrokenPipeError):
                return 128 + signal.SIGPIPE
            print("error: " + " ".join(str(error).splitlines()), file=sys.stderr)
            return 1
        except MemoryError:
            print(
                "error: the memory does not suffice; use a machine with more, or fewer images or resamples",
                file=sys.stderr,
            )
            return 1
        except KeyboardInterrupt as error:
            reason = "terminated" if received[-1] == signal.SIGTERM else "interrupted"
            print(f"error: {error if error.args else reason}", file=sys.stderr)
            return 128 + received[-1]
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    return guarded


def _open_streams() -> None:
    """Let what is printed go nowhere where the caller closed a stream (``>&-``), and fit any encoding."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Let standard output go nowhere if it takes nothing more: at its end Python would complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
