"""Files whose bytes have changed."""

import json

from hypothesis import strategies as st

PIECES = [b"", b"-", b"9", b"1e308", b"null", b"[", b'"', b"{}", b"..", b"/", b"\xff", b"NaN"]


@st.composite
def damaged(draw, content) -> bytes:
    """The content as JSON, with up to four pieces of it replaced by others."""
    text = bytearray(json.dumps(content).encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text) - 1))
        text[place : place + draw(st.integers(0, 3))] = draw(st.sampled_from(PIECES))
    return bytes(text)
