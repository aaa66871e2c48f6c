"""What a wheel holds: the package, configs and traits, data files."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
USE = """
from pathlib import Path
import fasa
from fasa import traits
print(Path(fasa.__file__).parent)
print(traits.load("rfs").Settings().threshold, traits.exists("nothing"))
"""


def test_a_wheel_holds_the_package_configs_and_data_and_works_from_anywhere(tmp_path):
    for name in ("fasa", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_py", "-d", "lib"]
    subprocess.run(build, cwd=tmp_path, check=True)

    lib = tmp_path / "lib"
    held = {path.relative_to(lib) for path in lib.rglob("*") if path.is_file()}
    wanted = {path.relative_to(tmp_path) for path in tmp_path.glob("fasa/**/*") if path.is_file()}
    configs = {Path("fasa", path.relative_to(tmp_path)) for path in tmp_path.glob("configs/**/*.py")}
    assert held == wanted | configs

    (tmp_path / "elsewhere" / "configs").mkdir(parents=True)  # mmdet's checkout has one, too
    use = [sys.executable, "-c", USE]
    used = subprocess.run(
        use, cwd=tmp_path / "elsewhere", env={"PYTHONPATH": str(lib)}, capture_output=True, text=True
    )
    assert used.stdout == f"{lib / 'fasa'}\n0.001 False\n", used.stderr
