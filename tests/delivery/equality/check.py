"""Every case of a file in the core of flagd's provider for Python.

It hashes as the newer generation does.

    python check.py <cases>
"""

import json
import logging
import sys

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

FAILURES_SHOWN = 5


class Count(logging.Handler):
    """Counts what is logged as an error: it would fill the log of an application."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record):
        self.count += 1


def main():
    errors = Count()
    logger = logging.getLogger("openfeature.contrib")
    logger.addHandler(errors)
    logger.propagate = False
    passed = failed = 0
    with open(sys.argv[1], encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            key = line["key"]
            flag = json.loads(text)["config"]["flags"][key]
            core = FlagdCore()
            core.set_flags(json.dumps(line["config"]))
            for case in line["cases"]:
                attributes = dict(case["context"])
                target = attributes.pop("targetingKey", None)
                context = EvaluationContext(targeting_key=target, attributes=attributes)
                expected = flag["variants"][case["v3"]]
                try:
                    if isinstance(expected, bool):
                        told = core.resolve_boolean_value(key, not expected, context)
                    else:
                        told = core.resolve_object_value(key, {}, context)
                    reason = (case["reason3"] or told.reason) if "targeting" in flag else "STATIC"
                    answer = (told.variant, told.value, told.reason)
                    good = answer == (case["v3"], expected, reason)
                except (OpenFeatureError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                    answer, good = repr(error), False
                if good:
                    passed += 1
                    continue
                failed += 1
                if failed <= FAILURES_SHOWN:
                    print(f"seed {line['seed']}: {case} {answer}\n{json.dumps(line['config'])}", file=sys.stderr)
    print(f"python: {passed} passed, {failed} failed ({errors.count} errors logged)")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
