"""Names that look like others: the page of a bundle and the terminal write out the same characters in them."""

NAMES = [  # and what is written out in each
    ("dr-ada\u200c", "\u200c"),
    ("dr-\u200dada", "\u200d"),
    ("dr-ada\U000e0041\U000e0042", "\U000e0041\U000e0042"),
    ("\u3164", "\u3164"),
    ("dr\ufe0f-a\u0301\u200cda\u034f", "\ufe0f\u200c\u034f"),
    ("dr-ada\ufe00\ufe0e", "\ufe00\ufe0e"),
    ("\u0434\u0440-\u0430\u0434\u0430\u200c", "\u200c"),
    ("\u03b4\u03c1-\u03ac\u200d", "\u200d"),
    ("1\u2014\u200c2", "\u200c"),
    ("山\ufe0f田", "\ufe0f"),
    ("a\u200b\u2060\ufeff\u00ad\u202e", "\u200b\u2060\ufeff\u00ad\u202e"),
    ("محمد\u200cعلی", ""),
    ("क्\u200dष", ""),
    ("👩\u200d⚕\ufe0f ❤\ufe0f\u200d🔥", ""),
    ("🔥\u200ca", "\u200c"),
    ("👩🏽\u200d⚕", ""),
]
