"""Print the total of several pytest runs as one line: "N passed, N failed, N skipped"."""

import sys
import xml.etree.ElementTree as ElementTree


def main(paths: list[str]) -> None:
    """Add up the JUnit reports that pytest wrote; an error counts as a failure."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for path in paths:
        for suite in ElementTree.parse(path).iter("testsuite"):
            for key in total:
                total[key] += int(suite.get(key, 0))
    failed = total["failures"] + total["errors"]
    print(f"{total['tests'] - failed - total['skipped']} passed, {failed} failed, {total['skipped']} skipped")


if __name__ == "__main__":
    main(sys.argv[1:])
