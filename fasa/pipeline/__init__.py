"""The machinery between params.yaml, DVC and the notebooks.

``fasa.pipeline.plan``          params and code become jobs, which the stages depend on
``fasa.pipeline.run``           a stage: its notebook, executed by papermill with its job's settings
``fasa.pipeline.side_by_side``  many stages at once, ``fasa run``
"""
