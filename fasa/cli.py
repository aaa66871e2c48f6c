"""The command ``fasa``: each of its commands is the `main` of a module, imported when it is called."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from fasa import __version__
from fasa.command import command
from fasa.errors import UserError

COMMANDS = {  # name: module, the extra that brings what it imports, what it does
    "evaluate": (
        "fasa.evaluation.__main__",
        "evaluation",
        "judge a detector's results by the instruments of LVIS",
    ),
    "check": (
        "fasa.check",
        "pipeline",
        "say what is installed, whether mmcv's ops run, whether data are complete",
    ),
    "plan": ("fasa.pipeline.plan", "pipeline", "check params.yaml and write what every stage depends on"),
    "run": ("fasa.pipeline.side_by_side", "pipeline", "bring stages up to date, side by side"),
    "status": (
        "fasa.pipeline.status",
        "pipeline",
        "say which stages are up to date, and which command does the rest",
    ),
    "report": ("fasa.report.__main__", "pipeline", "show the report's first table"),
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments over to the command that the first of them names."""
    listed = "\n".join(f"  {name:<10} {what}" for name, (_, _, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="fasa",
        description="Feature augmentation and sampling adaptation (FASA) for long-tailed recognition.",
        epilog=f"commands:\n{listed}\n\n`fasa COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fasa {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help()
        return 2
    arguments = parser.parse_args(argv)
    module, extra, _ = COMMANDS[arguments.command]
    try:
        main_of = importlib.import_module(module).main
        return main_of.__wrapped__(arguments.arguments)  # as it is: what goes wrong is told once, below
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("fasa"):
            raise
        mend = f"pip install '.[{extra}]' in a checkout"
        raise UserError(f"fasa {arguments.command} needs {error.name}: {mend}") from None
    except Exception as error:
        if arguments.command in ("run", "status") and _of_params(error):
            from fasa.params import read_params
            from fasa.pipeline.project import root

            read_params(root() / "params.yaml")
        raise


def _of_params(error: Exception) -> bool:
    """Whether a mistake in params.yaml may be behind it: DVC reads it too, and blames dvc.yaml."""
    if not isinstance(error, UserError):
        return True
    from dvc.parsing import ResolveError

    return isinstance(error.__context__, ResolveError)
