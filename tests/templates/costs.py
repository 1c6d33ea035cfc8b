"""What an environment costs a month at three loads, by deploy/prices.toml."""
import tomllib
from dataclasses import dataclass

import model

WORDS = {"one": 1, "both": 2}
KINDS = ("fixed", "hourly", "documents", "reads", "stored_gib")


@dataclass(frozen=True)
class Line:
    """One thing that is paid for: how much of it, and what it comes to, a load each."""

    what: str
    usd: float
    unit: str
    quantities: dict
    amounts: dict


def prices():
    return tomllib.loads((model.DEPLOY / "prices.toml").read_text())


def _number(value):
    return WORDS[value] if value in WORDS else float(value)


def lines(environment, shape, **changed):
    """What an environment pays for, in the order of the file."""
    table, values = prices(), model.given(environment, shape, **changed)
    for use in table["uses"]:
        wanted = use.get("when", {}).items()
        if shape not in use["shapes"] or any(values.get(key) not in few for key, few in wanted):
            continue
        factor = 1.0
        for name in use.get("times", []):
            factor *= _number(values[name])
        price = table["prices"][use["price"]]
        quantities = {}
        for name, load in table["loads"].items():
            of = {**load, "fixed": 1, "hourly": table["hours_a_month"]}
            quantities[name] = factor * sum(use.get(kind, 0) * of[kind] for kind in KINDS)
        yield Line(use["what"], price["usd"], price["unit"], quantities,
                   {name: quantity * price["usd"] for name, quantity in quantities.items()})


def totals(environment, shape, **changed):
    """USD a month, a load each."""
    found = list(lines(environment, shape, **changed))
    return {name: sum(line.amounts[name] for line in found) for name in prices()["loads"]}
