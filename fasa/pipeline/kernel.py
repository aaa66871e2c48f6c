"""``python -m fasa.pipeline.kernel``: ipykernel's kernel, made to die with the runner that launches it."""

import os

from fasa.pipeline.process import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))  # set by jupyter_client

    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
