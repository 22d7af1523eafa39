"""Reads texts with Python's own `json`, for tests/tests/canonical_json.rs.

Each input line is a text in UTF-8, as hex. Each output line is JSON: the reason why Python refuses the text (`refused`),
or its canonical text, the SHA-256 of that, and the flaws that Python ignores and a strict reader refuses.
Arguments: the deepest nesting and the most values that a strict reader accepts.
"""

import hashlib
import json
import math
import sys

MAX_DEPTH, MAX_VALUES = int(sys.argv[1]), int(sys.argv[2])


def flaws(text):
    """Names of the flaws that Python ignores and a strict reader refuses."""
    found = set()

    def integer(digits):
        if not -(2**63) <= int(digits) < 2**64:
            found.add("number_out_of_range")

    def real(digits):
        if math.isinf(float(digits)):
            found.add("number_out_of_range")

    def pairs(items):
        if len({key for key, _ in items}) < len(items):
            found.add("duplicate_key")
        return tuple(items)  # A tuple, to differ from an array and to keep the values of equal keys.

    values = 0
    left = [
        (
            json.loads(
                text,
                parse_int=integer,
                parse_float=real,
                parse_constant=lambda _: found.add("not_json"),
                object_pairs_hook=pairs,
            ),
            0,
        )
    ]
    while left:
        value, depth = left.pop()
        values += 1
        if depth > MAX_DEPTH:
            found.add("too_deep")
        texts = [value] if isinstance(value, str) else []
        if isinstance(value, tuple):
            texts = [key for key, _ in value]
            left += [(item, depth + 1) for _, item in value]
        if isinstance(value, list):
            left += [(item, depth + 1) for item in value]
        if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
            found.add("lone_surrogate")
    if values > MAX_VALUES:
        found.add("too_many_values")
    return sorted(found)


for line in sys.stdin:
    text = bytes.fromhex(line).decode("utf-8")
    try:
        canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        answer = {
            "canonical": canonical,
            "sha256": hashlib.sha256(canonical.encode("ascii")).hexdigest(),
            "flaws": flaws(text),
        }
    except (ValueError, RecursionError) as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)
