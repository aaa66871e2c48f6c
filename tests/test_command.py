"""How command lines end: one line, a status, no traceback."""

import os
import signal
import subprocess
import sys

import pytest

from fasa.command import command
from fasa.errors import UserError


def raising(error):
    @command
    def main(argv=None):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("x.json: is empty; write it again"), 1, "x.json: is empty; write it again"),
        (UserError("two\nlines"), 1, "two lines"),
        (
            PermissionError(13, "Permission denied", "out"),
            1,
            "out: Permission denied; allow it, or",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "a file or standard output: No space left on device; free",
        ),
        (MemoryError(), 1, "the memory does not suffice; use a machine with more"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("interrupted; go on with fasa run"), 130, "interrupted; go on with fasa run"),
    ],
)
def test_an_error_is_one_line_and_a_status(error, status, line, capsys):
    assert raising(error)() == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {line}") and err.count("\n") == 1


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()


def test_a_main_without_a_status_was_fine_and_gets_its_arguments(capsys):
    @command
    def main(argv=None):
        print(argv)

    assert main(["a"]) == 0 and main() == 0
    assert capsys.readouterr().out == "['a']\nNone\n"


PROGRAM = """
import sys, time
from fasa.command import command

@command
def main(argv=None):
    try:
        print("begun", flush=True)
        for i in range(100_000):
            {body}
    finally:
        print("tidied up", file=sys.stderr)

sys.exit(main())
"""


def start(body, **streams):
    program = [sys.executable, "-c", PROGRAM.format(body=body)]
    return subprocess.Popen(
        program, stderr=subprocess.PIPE, text=True, **dict(stdout=subprocess.PIPE) | streams
    )


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_signal_lets_it_tidy_up(number, word):
    process = start("time.sleep(0.1)")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == f"tidied up\nerror: {word}\n"
    assert process.returncode == 128 + number


def test_a_reader_that_goes_away_is_no_error():
    process = start("print(i)")
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    assert process.stderr.read() == "tidied up\n" and process.wait(20) == 141


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(closed):
    """As of ``>&-`` in a shell."""
    program = [sys.executable, "-c", PROGRAM.format(body="break")]
    shell = f'exec "$@" {dict(stdout=">&-", stderr="2>&-")[closed]}'
    done = subprocess.run(["sh", "-c", shell, "sh", *program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    kept = dict(stdout=("", "tidied up\n"), stderr=("begun\n", ""))[closed]
    assert (done.stdout, done.stderr) == kept


def test_what_an_encoding_has_no_letter_for_is_spelt_out():
    program = PROGRAM.replace('"begun"', r'"cr\u00eape \u65e5"').format(body="break")
    environment = os.environ | dict(PYTHONIOENCODING="latin-1")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, "crêpe ".encode("latin-1") + rb"\u65e5" + b"\n")


def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        process = start("pass", stdout=full, env=os.environ | dict(PYTHONUNBUFFERED=""))
        err = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: a file or standard output: No space left on device; free")
    assert "Traceback" not in err and "Exception ignored" not in err
