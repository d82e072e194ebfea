"""Plain English: words that the project used privately do not come back.

The rule reads docs, config files, and the comments and strings (docstrings, messages, flags) of
paddlevideo/ and tools/. Names that users know, such as config keys and flags, are allowed.
"""

import io
import re
import tokenize

from tests.rules.pages import texts

# Words with a private meaning -> the terms of the field.
WORDS = {
    r"told|tells": "described, reports, message",
    r"many[_-]hot": "multi-hot, multi_hot",
    r"pictures?": "frames, images",
    r"sounds?": "audio",
    r"hears?|heard|hearing": "uses audio",
    r"deviations?": "standard deviation, std",
    r"whole numbers?": "integers",
    r"several labels": "multi-label",
    r"mend(?:s|ed)?": "fix",
    r"anew": "again, re-initialized",
    r"beside": "next to",
    r"stands?": "is, is located",
    r"made-up": "synthetic",
    r"learnt": "trained, pretrained, learned",
    r"way[ _]out": "fix",
    r"in words": "as text",
    r"travels?": "is sent, is exported with",
}
PRIVATE = re.compile(rf"(?<![\w-])(?:{'|'.join(WORDS)})(?![\w-])", re.I)

# Config keys, flags, file and class names, file formats, and words in their plain meaning.
ALLOWED = re.compile(
    r"""
    \{[^{}]*\}                                  # variables in an f-string
    | data/demo/sound | ["'`]sound["'`] | \|[ ]sound[ ]  # a subset of the demo
    | --sound | \bsound: | \bsound[ ]is         # a flag of resize_videos.py
    | \bSOUNDS\b                                # a table of the demo set
    | ms/sound | sounds/s                        # columns of the benchmark
    | [Ss]tandard[ -]deviations? | groups?[ ]of[ ]pictures
    | stands?[ ](?:for|out)                      # represents; is notable
    """,
    re.X,
)


def private_words(text: str) -> list[str]:
    """The private words of a text that are not allowed."""
    return [match.group() for match in PRIVATE.finditer(ALLOWED.sub(" ", text))]


def comments_and_strings(code: str) -> list[tuple[int, str]]:
    """(line, text) of the comments and strings of a Python file, f-strings in pieces."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    found = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in kinds:
            lines = enumerate(token.string.splitlines(), token.start[0])
            found += [(number, line) for number, line in lines]
    return found


def described_words(name: str, text: str) -> list[str]:
    """file:line, word and replacement of every private word of a file."""
    if not PRIVATE.search(text):
        return []
    lines = list(enumerate(text.splitlines(), 1))
    if name.endswith(".py"):
        lines = comments_and_strings(text)
    found = []
    for number, line in lines:
        for word in private_words(line):
            term = next(t for w, t in WORDS.items() if re.fullmatch(w, word, re.I))
            found.append(f"{name}:{number}: {word!r}; write: {term}")
    return found


def test_texts_use_the_terms_of_the_field(root):
    found = []
    for name, text in texts(root, ".md", ".yaml", ".py").items():
        package = name.startswith(("paddlevideo/", "tools/", "main.py"))
        if package or name.endswith((".md", ".yaml")):
            found += described_words(name, text)
    assert not found, "\n" + "\n".join(found)


def test_the_rule_finds_words():
    code = 'x = 1  # it stands here\ny = f"{x} is told beside {x}"\nbeside = "fine"\n'
    found = described_words("a.py", code)
    assert [word.split(";")[0] for word in found] == [
        "a.py:1: 'stands'",
        "a.py:2: 'told'",
        "a.py:2: 'beside'",
    ]
    assert private_words("Sounds, a picture and a made-up list") == ["Sounds", "picture", "made-up"]
    allowed = ("standalone", "the standard deviation", "--sound copy", "data/demo/sound/test")
    assert not [text for text in allowed if private_words(text)]
