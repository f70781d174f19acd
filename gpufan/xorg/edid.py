"""An EDID of our own: the 128 bytes with which a monitor that is not there introduces itself to the driver."""


def pretended_edid() -> bytes:
    """Make the EDID 1.3 of a digital monitor that shows 1024x768 at 60 Hz and less.

    >>> len(pretended_edid()), sum(pretended_edid()) % 256
    (128, 0)
    """
    block = b"".join(
        (
            b"\x00\xff\xff\xff\xff\xff\xff\x00",
            _letters("GPF").to_bytes(2, "big"),
            (1).to_bytes(2, "little"),  # product
            (1).to_bytes(4, "little"),  # serial number
            bytes((1, 2024 - 1990, 1, 3)),  # made in week 1 of 2024; EDID 1.3
            bytes((0x80, 32, 24, 120, 0x0E)),  # digital; 32 by 24 cm; gamma 2.2; sRGB, preferred mode given
            _chromaticities(),
            bytes((0b0010_0001, 0b0000_1000, 0)),  # 640x480, 800x600 and 1024x768, each at 60 Hz
            b"\x01\x01" * 8,  # no further standard modes
            _detailed_timing(),
            _descriptor(0xFC, b"gpufan\n".ljust(13)),
            _descriptor(0xFD, bytes((50, 75, 30, 60, 8, 0)) + b"\n".ljust(7)),  # Hz, kHz and tens of MHz it can show
            _descriptor(0x10, bytes(13)),  # unused
            b"\x00",  # no extension blocks
        )
    )
    return block + bytes((-sum(block) % 256,))


def _letters(maker: str) -> int:
    """Three capitals, five bits each."""
    number = 0
    for letter in maker:
        number = number << 5 | ord(letter) - ord("A") + 1
    return number


def _chromaticities() -> bytes:
    """The primaries and the white of sRGB, ten bits each: two bytes of low bits, then the high ones."""
    points = (0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)
    values = [round(value * 1024) for point in points for value in point]
    low = 0
    for value in values:
        low = low << 2 | value & 0b11
    return low.to_bytes(2, "big") + bytes(value >> 2 for value in values)


def _detailed_timing() -> bytes:
    """1024x768 at 60 Hz as VESA times it: 65 MHz, both syncs negative."""
    width, width_blank, height, height_blank = 1024, 320, 768, 38
    front, sync, front_lines, sync_lines = 24, 136, 3, 6
    width_mm, height_mm = 320, 240
    return (6500).to_bytes(2, "little") + bytes(
        (
            width & 0xFF,
            width_blank & 0xFF,
            width >> 8 << 4 | width_blank >> 8,
            height & 0xFF,
            height_blank & 0xFF,
            height >> 8 << 4 | height_blank >> 8,
            front,
            sync,
            front_lines << 4 | sync_lines,
            0,
            width_mm & 0xFF,
            height_mm & 0xFF,
            width_mm >> 8 << 4 | height_mm >> 8,
            0,
            0,
            0b0001_1000,  # separate syncs, negative
        )
    )


def _descriptor(kind: int, content: bytes) -> bytes:
    return bytes((0, 0, 0, kind, 0)) + content
