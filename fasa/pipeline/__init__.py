"""The machinery between DVC and the notebooks: strip a notebook, run it as a stage, keep its outputs honest.

``python -m fasa.pipeline.strip``  a notebook without its outputs, which the real stages depend on
``python -m fasa.pipeline.run``    a stripped notebook, executed by papermill with the stage's parameters
"""
