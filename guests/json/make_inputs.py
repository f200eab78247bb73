#!/usr/bin/env python3
"""Makes the inputs and expected outputs of the json guest: documents as services send them, and malformed ones.

The documents are invented, from a seed. The expected output comes from Python's own json module, not from the guest.

    python guests/json/make_inputs.py
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPTH_MAX = 512

STREETS = ["Rue de la Paix", "Hauptstraße", "Gran Vía", "Østergade", "Main Street", "Ulica Długa", "東京通り"]
PRODUCTS = ["lamp", "desk", "chair", "keyboard 🎹", "cable \"USB-C\"", "notebook\tA5", "mug", "back\\slash pen"]

MALFORMED = {
    "empty": b"",
    "only-space": b" \n\t ",
    "trailing-comma": b'{"a": [1, 2, 3,]}',
    "missing-comma": b'{"a": 1\n "b": 2}',
    "missing-colon": b'{"a" 1}',
    "bare-name": b"{a: 1}",
    "single-quotes": b"['a']",
    "leading-zero": b"[007]",
    "bare-point": b"[1.]",
    "plus-sign": b"[+1]",
    "bare-exponent": b"[1e]",
    "nan": b"[NaN]",
    "comment": b"[1, /* two */ 2]",
    "unclosed-array": b"[[1, 2], [3",
    "unclosed-string": b'["abc',
    "wrong-bracket": b"[1, 2}",
    "raw-newline": b'["a\nb"]',
    "bad-escape": b'["\\x41"]',
    "short-unicode-escape": b'["\\u12"]',
    "bad-utf8": b'["\xff"]',
    "overlong-utf8": b'["\xc0\xaf"]',
    "surrogate-utf8": b'["\xed\xa0\x80"]',
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "zero-byte": b"[1]\x00",
    "two-documents": b"{} {}",
    "too-deep": b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
}


def main():
    random.seed(8259)
    for folder in ("input", "input/malformed", "expected"):
        (HERE / folder).mkdir(exist_ok=True)
    write("small", event(1), indent=2)
    write("medium", {"orders": [order(i) for i in range(150)], "next": None}, indent=1)
    write("large", {"type": "FeatureCollection", "features": [track(i) for i in range(120)]}, indent=None)
    write_edge()
    for name, data in MALFORMED.items():
        (HERE / f"input/malformed/{name}.json").write_bytes(data)


def write(name, document, indent):
    # An indent other than the guest's own, or spaces behind the separators: the guest has something to remove.
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    (HERE / f"input/{name}.json").write_text(text, "utf-8")
    (HERE / f"expected/{name}.json").write_text(compact(document), "utf-8")
    if name == "small":
        (HERE / f"expected/{name}.pretty.json").write_text(pretty(document), "utf-8")


def compact(document):
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"


def pretty(document):
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_edge():
    """What is allowed, but rare; written by hand, because a library would write it another way."""
    parts = [
        "-0", "1E+400", "1e-400", "0.10", "123456789012345678901234567890", "[ ]", "{\n}", '""',
        '"\\u0000\\uD834\\udd1e\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\\ud800 alone"', '"\x7f\u2028\U0010ffff"',
        '{"a":1,"a":2}', "true", "false", "null", "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1),
    ]
    tight = [part.replace("[ ]", "[]").replace("{\n}", "{}") for part in parts]
    (HERE / "input/edge.json").write_text(" [" + " ,\r\n\t".join(parts) + "]\n\n", "utf-8")
    (HERE / "expected/edge.json").write_text("[" + ",".join(tight) + "]\n", "utf-8")


def event(number):
    return {
        "id": f"evt_{random.getrandbits(64):016x}",
        "sequence": number,
        "type": "device.reading",
        "device": {"serial": "RM-00417", "firmware": "2.11.0", "tags": ["roof", "north", "spare"], "battery": 0.83},
        "readings": [{"t": 1700000000 + 60 * i, "c": round(random.uniform(-5, 30), 2), "ok": i % 7 != 0} for i in range(16)],
        "location": {"type": "Point", "coordinates": [round(random.uniform(-180, 180), 6), round(random.uniform(-90, 90), 6)]},
        "note": "première mesure, température en °C",
        "error": None,
    }


def order(number):
    lines = [
        {"sku": f"{random.randrange(10**8):08d}", "name": random.choice(PRODUCTS), "count": random.randrange(1, 9),
         "price": round(random.uniform(0.5, 900), 2)}
        for _ in range(random.randrange(1, 6))
    ]
    return {
        "number": number, "paid": random.random() < 0.9, "customer": {"mail": f"c{number}@example.org", "address": {
            "street": random.choice(STREETS), "house": str(random.randrange(1, 200)), "zip": f"{random.randrange(99999):05d}"}},
        "lines": lines, "total": round(sum(line["count"] * line["price"] for line in lines), 2), "discount": None,
    }


def track(number):
    x, y = random.uniform(-180, 180), random.uniform(-80, 80)
    points = []
    for _ in range(100):
        x, y = x + random.gauss(0, 0.001), y + random.gauss(0, 0.001)
        points.append([round(x, 7), round(y, 7), round(random.uniform(0, 2000), 1)])
    return {"type": "Feature", "id": number, "properties": {"name": f"track {number}", "open": number % 2 == 0},
            "geometry": {"type": "LineString", "coordinates": points}}


if __name__ == "__main__":
    main()
