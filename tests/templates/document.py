"""The parts of docs/AWS.md that are drawn up from the templates and the prices."""
import re

import costs
import differences
import model

PAGE = model.REPOSITORY / "docs" / "AWS.md"


def money(usd):
    return f"{usd:,.2f}" if usd < 100 else f"{usd:,.0f}"


def quantity(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:,.3g}"


def rows(cells):
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def arithmetic(environment, shape):
    """Each line as quantity and amount, a load each."""
    loads = list(costs.prices()["loads"])
    found = list(costs.lines(environment, shape))
    body = [(line.what, f"{line.usd:g} a {line.unit}",
             *(f"{quantity(line.quantities[one])} = ${money(line.amounts[one])}" for one in loads))
            for line in found]
    total = costs.totals(environment, shape)
    return rows([("what", "price in USD", *loads), ("---", "---", *("---:" for _ in loads)), *body,
                 ("**together**", "", *(f"**${money(total[one])}**" for one in loads))])


def totals():
    loads = list(costs.prices()["loads"])
    cases = [(f"{shape}, {environment}, {store}", environment, shape, store)
             for shape in model.SHAPES for environment in model.ENVIRONMENTS
             for store in ("dynamodb", "aurora")]
    body = []
    for title, environment, shape, store in cases:
        changed = {"Store": store}
        if shape == "serverless" and store == "aurora":
            changed["InNetwork"] = "yes"
        total = costs.totals(environment, shape, **changed)
        body.append((title, *(f"${money(total[one])}" for one in loads)))
    return rows([("USD a month", *loads), ("---", *("---:" for _ in loads)), *body])


def prices():
    table = costs.prices()
    return rows([("load", "documents a month", "reads", "stored, a year of it"), ("---",) * 4,
                 *((f"{name}", load["title"], f"{load['reads']:g} million a month",
                    f"{load['stored_gib']:,} GiB") for name, load in table["loads"].items())])


def parts():
    """What stands between `<!-- name -->` and `<!-- end -->`, by name."""
    return {
        "loads": prices(),
        "totals": totals(),
        **{f"arithmetic {shape}": arithmetic("production", shape) for shape in model.SHAPES},
        **{f"differences {shape}": differences.table(shape) for shape in model.SHAPES},
    }


def page():
    """The page with its drawn-up parts as they have to be."""
    text = PAGE.read_text()
    for name, part in parts().items():
        mark = f"<!-- drawn up: {name} -->"
        assert text.count(mark) == 1, f"docs/AWS.md has no place for {name}"
        text = re.sub(re.escape(mark) + r"\n.*?<!-- end -->",
                      lambda _, mark=mark, part=part: f"{mark}\n{part}\n<!-- end -->", text,
                      flags=re.DOTALL)
    return text
