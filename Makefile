# Two commands matter: `make repro` and `make test`. Both set up .venv first where that is needed.
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help repro everything test lab

help:
	@echo "make repro       run what the main tables need and is not up to date, then show the first"
	@echo "make everything  run every row and table, for hours"
	@echo "make test        check style and imports, run the tests"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "JOBS=8 runs eight stages side by side; otherwise as many as there are cores."
	@echo "All of them set up $(VENV) first where needed; by hand afterwards: source $(VENV)/bin/activate"

SIDE_BY_SIDE := @$(VENV)/bin/python -m fasa.pipeline.side_by_side $(if $(JOBS),--jobs $(JOBS))

# The rows of `run` in params.yaml, the main table's two first. `dvc repro` runs the rest too, for hours.
repro: $(VENV)/.ready
	$(SIDE_BY_SIDE) params 'strip@*' sources data 'warmup@*' 'cluster@*' 'train@mask_rcnn-*' 'train@mask_rcnn_fasa-*' \
		'evaluate@mask_rcnn-*' 'evaluate@mask_rcnn_fasa-*' table errors
	@$(VENV)/bin/python -m fasa.report
	$(SIDE_BY_SIDE) 'train@*' 'evaluate@*' table errors protocols comparison@table2 summary
	@$(VENV)/bin/python -m fasa.report

everything: $(VENV)/.ready
	$(SIDE_BY_SIDE) '*'
	@$(VENV)/bin/python -m fasa.report

test: $(VENV)/.ready
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/pytest

lab: $(VENV)/.ready
	@$(VENV)/bin/jupyter lab

# The stamp is set-up's last act: one that was interrupted is taken up again.
$(VENV)/.ready: constraints.txt pyproject.toml
	@./setup.sh
