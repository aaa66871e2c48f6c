"""Papermill, with this interpreter as its kernel and one line per failure."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from traitlets import default

from fasa.errors import UserError
from fasa.files import readable_errors
from fasa.pipeline.process import temporary_folder
from fasa.pipeline.strip import dumps


class ThisPython(KernelSpecManager):
    """Answers every name with this interpreter, whatever ``python3`` means to Jupyter on this machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "fasa.pipeline.kernel", "-f", "{connection_file}"]
        return KernelSpec(argv=command, name=kernel_name, display_name="Python 3", language="python")


class Kernel(AsyncKernelManager):
    """Starts :class:`ThisPython`, reached through Unix sockets in ``JUPYTER_RUNTIME_DIR``: no open ports."""

    @default("kernel_spec_manager")
    def _this_python(self) -> KernelSpecManager:
        return ThisPython(parent=self)

    @default("transport")
    def _unix_sockets(self) -> str:
        return "ipc"

    @default("connection_file")
    def _short_name(self) -> str:  # the path of a Unix socket has room for about 100 characters
        return str(Path(os.environ["JUPYTER_RUNTIME_DIR"], "kernel"))


SOCKET_PATH = 80  # bytes for the folder of a kernel's sockets, of the 107 that Linux gives their whole path


def execute(notebook: dict[str, Any], parameters: dict[str, Any], source: Path, partial: Path) -> dict:
    """Run all cells of the notebook read from ``source``; what they print appears as they print it.

    After each cell the notebook is saved in ``partial``, which is left there.

    Raises:
        UserError: a cell failed, the kernel died, or a file could not be written.
    """
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # what is to be said is said below
    with temporary_folder(SOCKET_PATH) as private, readable_errors(partial):
        # an IPython without the user's start-up files
        os.environ.update(JUPYTER_RUNTIME_DIR=str(private), IPYTHONDIR=str(private))
        try:
            return papermill.execute_notebook(
                nbformat.reads(dumps(notebook), as_version=4),
                partial,
                parameters,
                kernel_name="python3",
                kernel_manager_class=Kernel,
                shutdown_kernel="immediate",  # one in ten takes 3 s when asked: ipykernel trips over SIGINT
                iopub_timeout=60,  # the default of 4 s fails on a busy machine
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
        except papermill.PapermillExecutionError as error:
            reason = error.evalue if error.ename == "UserError" else f"{error.ename}: {error.evalue}"
            failure = f"{source}, cell [{error.exec_count}]: {reason.strip().partition(chr(10))[0]}"
        except DeadKernelError:
            failure = f"{source}: its kernel died, often for want of memory"
    raise UserError(f"{failure} (the notebook as far as it came: {partial})")
