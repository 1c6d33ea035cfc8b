"""How the environments of a shape differ: the parameters that have other values."""
import model


def differences(shape):
    """(parameter, value in staging, value in production, what it means)."""
    staging, production = (
        model.environment_file(one, shape)["Parameters"] for one in model.ENVIRONMENTS)
    declared = model.template(f"{shape}.yaml")["Parameters"]
    return [(key, staging[key], production[key], declared[key]["Description"])
            for key in staging if staging[key] != production[key]]


def table(shape):
    rows = [("parameter", "staging", "production", "what it is"), ("---",) * 4,
            *((f"`{key}`", f"`{left}`", f"`{right}`", text)
              for key, left, right, text in differences(shape))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    for shape in model.SHAPES:
        print(f"{shape}\n\n{table(shape)}\n")
