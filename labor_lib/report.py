"""stub"""


def print_table(table):
    print(table.to_string())


def write_report(out):
    return out


def write_readme_table(out, readme): ...
