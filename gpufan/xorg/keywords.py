"""The keywords that X knows in each kind of section, and the arguments of each keyword.

The module `parser` uses these tables. The tables are those of the server's own parser (release 21.1). The server
reports an error for every other keyword. A regular expression describes the arguments, with one letter for each token:
`s` is a string in quotes, `n` a number, `c` a comma, `d` a dash, `w` a word. Keywords have the form that
`tokens.normalized_name` returns.
"""

from collections.abc import Mapping


def _keywords_with(pattern: str, words: str) -> dict[str, str]:
    """Return a table that gives each keyword the arguments `pattern`. `words` are the keywords, separated by spaces."""
    return dict.fromkeys(words.split(), pattern)


_OPTION = {"option": "ss?|[ncdw]"}
"""X skips an Option whose first argument is no string, together with this argument."""

_BOTH_SYNC = "n(dn)?(cn(dn)?)*c?"
"""The arguments of HorizSync and of VertRefresh: numbers and ranges, separated by commas."""

FLAGS = ["interlace", "+hsync", "-hsync", "+vsync", "-vsync", "composite", "+csync", "-csync", "doublescan"]
"""The strings that X knows after Flags in a Mode block."""

_TIMINGS = {
    **dict.fromkeys([*FLAGS, "bcast"], ""),
    "hskew": "n",
    "vscan": "n",
}
_MODE = {
    "dotclock": "n",
    "htimings": "nnnn",
    "vtimings": "nnnn",
    "flags": "s+",
    "hskew": "n",
    "vscan": "n",
}
_DISPLAY = {
    "viewport": "nn",
    "virtual": "nn",
    "visual": "s",
    "black": "nnn",
    "white": "nnn",
    "depth": "n",
    "fbbpp": "n",
    "weight": "nnn",
    "modes": "s*",
    **_OPTION,
}
_MATCHES = ("product", "vendor", "devicepath", "os", "pnpid", "usbid", "driver", "tag", "layout")
_IS = ("keyboard", "pointer", "joystick", "tablet", "tabletpad", "touchpad", "touchscreen")
BOOLEANS = {f"matchis{kind}" for kind in _IS}
"""Keywords of an InputClass whose string argument must be a boolean."""

_NAMED = {"identifier": "s", **_OPTION}

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "files": {
        **_keywords_with("s", "fontpath modulepath logfile xkbdir"),
        **_keywords_with("[sncdw]", "rgbpath inputdevices"),
    },
    "serverflags": {
        **_keywords_with(
            "",
            "dontzap dontzoom disablevidmodeextension allownonlocalxvidtune disablemodindev allownonlocalmodindev"
            " allowmouseopenfail",
        ),
        **_keywords_with("n", "blanktime standbytime suspendtime offtime"),
        "defaultserverlayout": "s",
        **_OPTION,
    },
    "pointer": {
        **_keywords_with("", "emulate3buttons chordmiddle cleardtr clearrts alwayscore"),
        **_keywords_with("n", "emulate3timeout baudrate samplerate resolution buttons"),
        **_keywords_with("s", "protocol device port"),
        "zaxismapping": "(nn)?",
    },
    "videoadaptor": {**_keywords_with("s", "vendorname boardname busid driver"), **_NAMED},
    "device": {
        **_keywords_with("s", "vendorname boardname chipset ramdac matchseat clockchip card driver busid"),
        **_keywords_with("n", "videoram biosbase membase iobase chipid chiprev irq screen"),
        "dacspeed": "n{1,4}",
        "clocks": "n{0,128}",
        **_NAMED,
    },
    "monitor": {
        **_keywords_with("s", "vendorname modelname usemodes mode"),
        "modeline": "sn{9}",
        "displaysize": "nn",
        "horizsync": _BOTH_SYNC,
        "vertrefresh": _BOTH_SYNC,
        "gamma": "n(nn)?",
        **_NAMED,
    },
    "modes": {"identifier": "s", "modeline": "sn{9}", "mode": "s"},
    "screen": {
        **_keywords_with("s", "driver matchseat device monitor videoadaptor gpudevice"),
        **_keywords_with("n", "defaultcolordepth defaultdepth defaultbpp defaultfbbpp"),
        "virtual": "nn",
        **_NAMED,
    },
    "inputdevice": {"driver": "s", **_NAMED},
    "inputclass": {
        "driver": "s",
        **{prefix + kind: "s" for prefix in ("match", "nomatch") for kind in _MATCHES},
        **dict.fromkeys(BOOLEANS, "s"),
        **_NAMED,
    },
    "outputclass": {**_keywords_with("s", "driver modulepath matchdriver"), **_NAMED},
    "module": _keywords_with("s", "load disable loaddriver"),
    "serverlayout": {
        **_keywords_with("s", "matchseat inactive"),
        "inputdevice": "s+",
        "screen": "n?s(nn|ssss)?",
        **_NAMED,
    },
    "vendor": _NAMED,
    "dri": {"group": "[sn]", "mode": "n"},
    "extensions": _OPTION,
}
"""For each kind of section, its keywords with their arguments.

The keywords Section, EndSection, SubSection, EndSubSection and EndMode are left out.
"""

FOLLOWERS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("serverlayout", "screen"): {
        **_keywords_with("s", "rightof leftof above below"),
        "relative": "snn",
        "absolute": "nn",
    },
    ("pointer", "zaxismapping"): {"x": "", "y": ""},
    ("monitor", "modeline"): _TIMINGS,
    ("modes", "modeline"): _TIMINGS,
}
"""Keywords that are valid only directly after another keyword. The key is the kind of section and that other keyword.

Only one of these keywords may follow a Screen. Any number of them may follow a ModeLine or a ZAxisMapping.
"""

SUBSECTIONS: Mapping[str, Mapping[str, str]] = {
    "screen": _DISPLAY,
    "module": _OPTION,
    "videoadaptor": _NAMED,
    "vendor": _OPTION,
}
"""For each kind of section, the keywords that are valid in its SubSections.

The name of the SubSection does not matter.
"""

MODE = _MODE
"""The keywords of a Mode block. A Mode block is in a Monitor or Modes section, and ends with EndMode."""

MAX_GPU_DEVICES = 4
"""The largest number of GPUDevice entries in one Screen."""

MAX_SCREENS = 16
"""The largest number of X screens of one server. With more of them, X ends."""

MAX_SYNC_RANGES = 8
"""The largest number of ranges for HorizSync, and for VertRefresh, in one Monitor."""

UNNAMED = {"files", "serverflags", "pointer", "module", "dri", "extensions"}
"""Kinds of sections that need no Identifier."""
