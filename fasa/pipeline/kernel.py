"""``python -m fasa.pipeline.kernel``: ipykernel's kernel, made to die with the runner that launches it.

After each cell it notes which modules of fasa have been imported.
"""

import os

from fasa.pipeline.process import die_with_parent
from fasa.pipeline.project import note_modules

if __name__ == "__main__":
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))  # set by jupyter_client

    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize()
    app.shell.events.register("post_run_cell", lambda _: note_modules("kernel"))
    app.start()
