"""Table 7: the numbers that the paper gives for other methods, and ours."""

import inspect
from typing import Any

import fasa
from fasa.report.tables import definition, markdown


def default(augmenter: str, argument: str) -> Any:
    """What a method of fasa takes for an argument that a job does not name."""
    return inspect.signature(getattr(fasa, augmenter)).parameters[argument].default


def section(jobs: dict[str, dict[str, Any]]) -> str:
    """The paper's, the default of ours, read from its code, and what the rows of a profile take.

    Args:
        jobs: of each row, as plain data.
    """
    body, agree = [], 0
    for one in definition("table7"):
        usual_value = default(one["augmenter"], one["argument"])
        taken = {
            row: job["augmenter"].get(one["argument"], usual_value)
            for row, job in jobs.items()
            if (job["augmenter"] or {}).get("type") == one["augmenter"]
        }
        usual = [row for row, value in taken.items() if value == usual_value]
        others = [f"{value:g} in `{row}`" for row, value in taken.items() if value != usual_value]
        here = ", ".join(["default"] * bool(usual) + others) or "no row"
        name = f"`{one['augmenter']}.{one['argument']}`"
        body.append([one["method"], one["what"], f"{one['paper']:g}", f"{usual_value:g}", here, name])
        agree += usual_value == one["paper"]
    table = markdown(
        ["method", "parameter", "paper", "our default", "in rows of this profile", "in code"], body
    )
    return f"{table}\n\n**Read:** {agree} of {len(body)} defaults are the paper's."
