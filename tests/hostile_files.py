"""Small files that ask for all memory or for hours of work, as bytes."""

import io
import struct
import zipfile
from collections.abc import Callable
from functools import cache, partial

import numpy as np

# --- pickles --------------------------------------------------------------------------------------

DICT, TEXT = b"}", b"X\x01\x00\x00\x00w"


def doubled(levels: int = 40, leaf: bytes = b")", join: bytes = b"\x86") -> bytes:
    """A container that holds the one before twice, 40 times: 2^40 leaves, in 200 bytes."""
    return leaf + (b"q\x00h\x00" + join) * levels


def nested(levels: int, leaf: bytes = b")", wrap: bytes = b"\x85") -> bytes:
    return leaf + wrap * levels


def array_head() -> bytes:
    """An array of NumPy up to its shape, which replaces %s; its data and an end have to follow."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01%s"
        b"cnumpy\ndtype\n\x8c\x02f4K\x00K\x01\x87R(K\x03\x8c\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )


def pickles() -> dict[str, bytes]:
    """Pickles by what they do."""
    big = struct.pack("<Q", 3 << 30)
    text = b"X" + struct.pack("<I", 400_000) + b"a" * 400_000 + b"q\x01"
    data = b"B" + struct.pack("<I", 400_000) + b"a" * 400_000 + b"q\x01"
    shape = b"(K\x01K\x01" + nested(5000) + b"t"
    array = array_head() % (b"J" + struct.pack("<i", 100_000) + b"\x85")
    colliding = b"".join(
        b"\x8a\x0c" + (number * ((1 << 61) - 1)).to_bytes(12, "little") + b"N"
        for number in range(1, 60_000)
    )
    bodies = {
        "exponential key": DICT + doubled() + b"Ns",
        "exponential key of a dict operation": b"(" + doubled() + b"Nd",
        "exponential keys of an OrderedDict": b"ccollections\nOrderedDict\n]"
        + doubled()
        + b"N\x86a\x85R",
        "exponential member of a set": b"\x8f(" + doubled() + b"\x90",
        "exponential member of a frozenset": b"(" + doubled() + b"\x91",
        "exponential value": DICT + TEXT + doubled() + b"s",
        "exponential lists": DICT + TEXT + doubled(40, b"]", b"\x86") + b"s",
        "exponential shape": DICT + TEXT + array_head() % doubled() + data + b"tbs",
        "exponential type of an array": b"cnumpy\ndtype\n" + doubled() + b"\x85R",
        "exponential encoding": b"c_codecs\nencode\n" + TEXT + doubled() + b"\x86R",
        "deep key": DICT + nested(300_000) + b"Ns",
        "deep value": DICT + TEXT + nested(300_000) + b"s",
        "deep lists": b"]" * 200_000 + b"a" * 199_999,
        "deep dicts": DICT + (TEXT + DICT) * 100_000 + b"s" * 100_000,
        "deep shape": DICT + TEXT + array_head() % shape + data + b"tbs",
        "marks": b"(" * 1_100_000,
        "3 GB of bytes": b"\x8e" + big,
        "3 GB of text": b"\x8d" + big,
        "3 GB of a bytearray": b"\x96" + big,
        "2 GB of text of Python 2": b"T" + struct.pack("<i", (1 << 31) - 1),
        "2 GB of a number": b"\x8b" + struct.pack("<i", (1 << 31) - 1),
        "2 GB of memo": DICT + b"r\xfe\xff\xff\x7f" + TEXT + b"]s",
        "empty sets": b"](" + b"\x8f" * 1_100_000 + b"e",
        "empty dicts": b"](" + b"}" * 1_100_000 + b"e",
        "memo entries": b"]" + b"\x94" * 1_100_000,
        "marks and lists": b"](" + b"(l" * 600_000 + b"e",
        "the same text, encoded 10,000 times": text
        + b"]("
        + b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R" * 10_000
        + b"e",
        "the same array, 10,000 times": data + b"](" + (array + b"h\x01tb") * 10_000 + b"e",
        "tuples of the same list": b"]("
        + b"N" * 100_000
        + b"eq\x01("
        + (b"cbuiltins\ntuple\nh\x01\x85R" * 20_000 + b"l"),
        "dicts of the same list": b"]("
        + b"K\x01N\x86" * 100_000
        + b"eq\x01("
        + (b"ccollections\nOrderedDict\nh\x01\x85R" * 20_000 + b"l"),
        "wide text": b"X" + struct.pack("<I", 3_000_004) + b"a" * 3_000_000 + b"\xf0\x9f\x98\x80",
        "wide text of protocol 0": b"V" + b"a" * 3_000_000 + b"\\U0001f600\n",
        "keys of equal hash": DICT + b"(" + colliding + b"u",
        "an attribute of a function": b"cnumpy.core.multiarray\n_reconstruct\n}\x8c\x01aNsb",
        "an extension": b"\x82\x01",
    }
    return {name: b"\x80\x04" + body + b"." for name, body in bodies.items()}


# --- arrays ---------------------------------------------------------------------------------------


def npy(shape: str, dtype: str = "'<f4'", data: bytes = b"") -> bytes:
    """A `.npy` file with any header."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npys() -> dict[str, bytes]:
    """Damaged or hostile `.npy` files by what they do."""
    return {
        "a size that it does not have": npy("(400000000000, 80)"),
        "sizes that overflow": npy("(9223372036854775807, 9223372036854775807)"),
        "a negative size": npy("(-1, 80)"),
        "texts of no characters": npy("(1000000000000000,)", "'<U0'"),
        "a loop without elements": npy("(4611686018427387904, 0)"),
        "one huge text": npy("(1,)", "'<U500000000'"),
        "a bracket that never closes": npy("((((("),
        "a text that never closes": npy("'''"),
        "a multi-line text that never closes": b"\x93NUMPY\x01\x00\x06\x00'''\n\n\n",
        "an indentation": b"\x93NUMPY\x01\x00\x08\x00 {\n {\n\t}",
        "a deep header": npy("(" * 4000 + ")" * 4000),
        "a deep type": npy("(1,)", "[" * 900 + "]" * 900),
        "a long number": npy("(" + "9" * 9000 + ",)"),
        "a zero byte": npy("(1,)\0"),
        "another version": b"\x93NUMPY\x07\x00" + npy("(1,)")[8:],
        "objects": npy("(1,)", "'|O'", b"\x80\x04N."),
        "records": npy("(1,)", "[('a', '<f4')]", bytes(4)),
        "nothing": b"",
        "half a header": npy("(3, 80)")[:20],
    }


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in entries.items():
            member = zipfile.ZipInfo(name)  # without the time: the same bytes at each call
            opened.writestr(member, content, compression)
    return file.getvalue()


def npzs() -> dict[str, Callable[[], bytes]]:
    """Hostile `.npz` files by what they do; some take a second to make."""
    bodies = {
        "160 MB of zeros": _zeros,
        "1.6 GB in one entry": _claiming,
        "60,000 entries": _many_entries,
        "two arrays of one name": _two_of_a_name,
        "compressed in another way": lambda: archive({"id.npy": npy("(0,)")}, zipfile.ZIP_LZMA),
    }
    members = {f"a member with {name}": {"id.npy": data} for name, data in npys().items()}
    return bodies | {name: partial(archive, entries) for name, entries in members.items()}


@cache
def _zeros() -> bytes:
    block = bytes(1_000_000)
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened,
        opened.open("scores.npy", "w") as entry,
    ):
        entry.write(np.lib.format.magic(1, 0) + npy("(20000000,)", "'<f8'")[8:])
        for _ in range(160):
            entry.write(block)
    return file.getvalue()


@cache
def _many_entries() -> bytes:
    """An archive whose list names its only entry 60,000 times: 5 MB."""
    name = "n" * 40
    content = archive({name: b""}, zipfile.ZIP_STORED)
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entries = content[start:end] * 60_000
    last = struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, 60_000, 60_000, len(entries), start, 0)
    return content[:start] + entries + last


def _claiming() -> bytes:
    """An archive whose directory gives its only entry a size of 1.6 GB."""
    content = archive({"scores.npy": npy("(4,)", data=bytes(16))})
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 1_600_000_000) + content[at + 28 :]


def _two_of_a_name() -> bytes:
    content = archive({"id.npy": npy("(0,)"), "ie.npy": npy("(0,)")}, zipfile.ZIP_STORED)
    return content.replace(b"ie.npy", b"id.npy")


# --- YAML -----------------------------------------------------------------------------------------


def yamls() -> dict[str, tuple[str, str]]:
    """(text, a part of the message about it) by what the text does; each is refused at once."""
    many = "more than 100000 values"
    lines = ["a0: &a0 {k0: 1, k1: 1, k2: 1, k3: 1, k4: 1, k5: 1, k6: 1, k7: 1, k8: 1, k9: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return {
        "merge keys that multiply": ("\n".join(lines), many),
        "one long merge": (f"a: &a {{{'k: 1, ' * 500}}}\nb: {{<<: [{'*a, ' * 500}]}}", many),
        "aliases that multiply": ("\n".join(lists), many),
        "aliases as keys": ("a: &a [x, x]\nb: &b [*a, *a]\n? *b\n: 1", "cannot be a key"),
        "a merge of itself": ("a: &a {<<: *a}", "nested too deep, or an alias"),
        "a loop of anchors": ("a: &a [&b [*a], *b]", "nested too deep, or an alias"),
        "a number in base 60": ("a: " + "1" + ":1" * 450_000, "a number of 900001 characters"),
        "a float in base 60": ("a: 1" + ":1" * 600 + ".5", "a number of 1203 characters"),
        "a number by its tag": ("a: !!int '1" + ":1" * 4000 + "'", "a number of 8001 characters"),
        "a date by its tag": ("a: !!timestamp '" + "1" * 1900 + "'", "a number of 1900 characters"),
        "many digits": ("a: " + "9" * 900_000, "a number of 900000 characters"),
        "digits and letters": ("a: 0x" + "f" * 70_000, "a value of 70002 characters"),
        "a long text": ("a: " + "word " * 100_000, "a value of 499999 characters"),
        "deep lists": ("a: " + "[" * 100_000, "nested too deep"),
        "deep maps": ("a: " + "{a: " * 20_000, "nested too deep"),
        "deep indentation": ("\n".join(f"{' ' * n}a:" for n in range(400)), "nested too deep"),
        "many values": ("a: [" + "1," * 110_000 + "]", many),
    }
