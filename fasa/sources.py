"""What of the code only some rows use: ``python -m fasa.sources`` writes it to build/sources, a file a row.

The stages of a row depend on its file: an edit of SMOTE trains SMOTE's rows again, and no other.
"""

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import fasa
from fasa.classification import rows as classification
from fasa.errors import UserError
from fasa.pipeline.project import load_params
from fasa.rows import Row, read_row

OUT = Path("build", "sources")
BASELINES = "baselines."


def modules(row: Row) -> list[str]:
    """The modules below `fasa` that this row uses and not every row does."""
    names = []
    if row.rfs:
        names += ["data.repeat_factors", "detection.repeat_factor_sampler"]
    if row.nms_resampling:
        names.append("detection.nms_resampling")
    if row.instaboost:
        names.append("detection.instaboost")
    if row.augmenter and row.augmenter.get("phase"):
        names.append("detection.phases")
    return names + of_method(row.augmenter)


def of_method(augmenter: dict | None) -> list[str]:
    """The modules of a row's augmenter; none for FASA's, which every row depends on."""
    home = fasa.METHODS[augmenter["type"]] if augmenter else ""
    return baselines(home) if home.startswith(BASELINES) else []


def baselines(module: str) -> list[str]:
    """A module of `fasa.baselines` and those that it imports from there."""
    found = [module]
    for name in found:  # grows while it is walked
        imported = re.findall(r"^from fasa\.(baselines\.\w+) import", path(name).read_text(), re.MULTILINE)
        found += [one for one in imported if one not in found]
    return found


def path(module: str) -> Path:
    """The file of a module below `fasa`."""
    return Path("fasa", *module.split(".")).with_suffix(".py")


def write(out: Path, used: Iterable[Path]) -> None:
    """Write the text of some files as one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(f"# {one}\n{one.read_text()}\n" for one in used))


def main() -> int:
    """Write the files, and remove those of rows that are no more."""
    try:
        params = load_params()
        shutil.rmtree(OUT, ignore_errors=True)
        for name in params["rows"]:
            row = read_row(params["rows"], name)
            used = [Path("configs", params["profile"], f"{row.model}.py"), *map(path, modules(row))]
            if row.model != Row.model:
                used.append(Path("configs", params["profile"], f"{Row.model}.py"))  # the other models' base
            write(OUT / f"{name}.py", used)
        rows = params["classification"]["rows"]
        for name in rows:
            augmenter = classification.read_row(rows, name).augmenter
            write(OUT / "classify" / f"{name}.py", map(path, of_method(augmenter)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
