# Two commands matter: `make repro` and `make test`. Both set up .venv first where that is needed.
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help repro test lab

help:
	@echo "make repro   run what the main table needs and is not up to date, then show it"
	@echo "make test    check style and imports, run the tests"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "All of them set up $(VENV) first where needed; by hand afterwards: source $(VENV)/bin/activate"

# What the main table needs; plain `dvc repro` also classifies.
repro: $(VENV)/.ready
	@$(VENV)/bin/dvc repro cluster table errors protocols summary
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
