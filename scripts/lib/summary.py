"""Print what the demo left behind; exit status 1 where something is missing. Usage: summary.py OUT SECONDS_OF_SETUP."""

import json
import sys
from pathlib import Path


def main(out: Path, setup: str) -> int:
    """Read report.json and print it for a person."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    print(f"QGIS {report.get('qgis')}, Afterimage {report.get('plugin')}; set-up took {setup} s")
    for key, job in report.get("jobs", {}).items():
        height, width = job["shape"]
        print(
            f"  {key}: {width} x {height} pixels in {job['seconds']} s with {job['model']} -> {', '.join(job['files'])}"
        )
        for notice in job["notices"]:
            print(f"    {notice}")
    if "longest_stall_ms" in report:
        print(
            f"QGIS's main thread was away from its event loop for at most {report['longest_stall_ms']} ms during the "
            f"jobs, {report['longest_work_ms']} ms of its own work at a time; the rest is other programs"
        )
    problems = list(report["problems"])
    for job in report.get("jobs", {}).values():
        problems += [f"{name} is missing" for name in job["files"] if not (out / name).is_file()]
    if not (out / "afterimage-demo.qgz").is_file():
        problems.append("afterimage-demo.qgz is missing")
    pictures = sorted(path.name for path in out.glob("*.png"))
    print(f"Pictures in {out.name}/: {', '.join(pictures)}")
    for text in problems:
        print(f"PROBLEM: {text}")
    print("The demo failed." if problems else "The demo went through.")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
