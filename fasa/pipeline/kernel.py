"""``python -m fasa.pipeline.kernel``: ipykernel's kernel, made to die with the runner that launches it.

After each cell it notes which modules of fasa have been imported: the runner compares them with the job.
"""

import json
import os
import sys
from pathlib import Path

from fasa.pipeline.process import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))  # set by jupyter_client

    from ipykernel.kernelapp import IPKernelApp

    def note(_) -> None:
        """Write the names of the modules."""
        mine = sorted(name for name in sys.modules if name.partition(".")[0] == "fasa")
        Path(os.environ["FASA_WORK_DIR"], "modules.json").write_text(json.dumps(mine))

    app = IPKernelApp.instance()
    app.initialize()
    app.shell.events.register("post_run_cell", note)
    app.start()
