"""HTJ2K codestreams, and the pixels that they were made from.

Made with OpenJPH 0.26.3; no Python package in reach of the tests encodes HTJ2K.
"""

import base64

import numpy as np

_DOWN, _ACROSS = np.mgrid[0:16, 0:16]
GREY_8 = (_ACROSS * 11 + _DOWN * 5).astype("u1")[np.newaxis]
GREY_16 = (_ACROSS * 3000 + _DOWN * 1000).astype("u2")[np.newaxis]
RGB = np.stack([_ACROSS * 11 + _DOWN * 5, _ACROSS * 5 + _DOWN * 11, 255 - _ACROSS * 16], -1).astype(
    "u1"
)[np.newaxis]
# How far the most distant pixel of the lossy one is from GREY_8, by the decoder of the same maker.
LOSSY_DISTANCE = 4
CODESTREAMS = {
    name: base64.b64decode(text)
    for name, text in {
        "grey 8": (
            "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABBwEB/1AACAACAAAAAf9SAAwA"
            "AgABAAEEBEAB/1wAByBISEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHQAAf+TwC9G"
            "/3XTv9Nkf3728TE0nLkOr17+6+nvnATLFUD6a3Pwvg5XF0n1rWoE5xDfFt9sgExeQv0UmPEAOE6KY7GM"
            "+EQX5EAAAFGxAcArIBWAREREROfAp6enwngACAAA/v2Se/ZJ7LgA/9k="
        ),
        "grey 16": (
            "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACf9SAAwA"
            "AgABAAEEBEAB/1wAByCIiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAMsAAf+TwAAv"
            "okD/f1/wH9F/wR/Rp+Rr/jv+I77pz+q/8Mm8Uf1Gs/sFf0R/x/6I/gVf8w/qH/Gn/Kw8E5/MD/dAdFpt"
            "/l/wO/ZT8l/wO/6gftN+Sv8Fz8Qb9cN9r15nPYYG50e0CvmaL4f/CNdln5UFgk8mrXogspm/XRKhu3Lq"
            "/QHCdAeOEF8IxFznAWBCAFGyAcAALUgABahu53Zu53Zu53Zu53bnynp6c4J4AM533nnnnXfeeef9lKB7"
            "9lKB7LoA/9k="
        ),
        "RGB": (
            "/0//UQAvQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAADBwEBBwEBBwEB/1AACAACAAAA"
            "Av9SAAwAAgABAQEEBEAB/1wAByBQUFBQ/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAV0A"
            "Af+TwBegAIFyPnxv79VGZTMeW5C8ijUo9/De4quNymWSh5YrMmDBjXAI9EkBRVxGlnCL5wjxAVCCyAow"
            "IGgMWfkMaCAzMQHAF6eA/NBR81GhAFCzAFgWoXQdkOKFSsIPjcpHRQFS0f5rywSCz0yKB0USaFUDqdUH"
            "M/TCoG5MTeGWXbS+A2a+IgHrhGqOlAecILgAAighAqmyAcAXfte6luF6hu057CrJe1zvZbmW4XqNevF3"
            "P37vcb2X5VqK/Ei9i3z5Eb7JFWcN/gFiray/jtUXjiOwgiNTZC1yAcAWlAFtQBOAAAAAgE2qr3m1Ve82"
            "qr3ukU4AAAAABCYwgRn8ASR7ZJbruuupuuupv378MQHmUDSliScAwBWwBWgppZRSSufKenpwAngAtaqq"
            "qv798nv3yey4AMAVcAVgkiRJ58Cnp6dCeAC7bdv+/ZJ79knsuAD/2Q=="
        ),
        "lossy": (
            "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABBwEB/1AACAACAAAAIP9SAAwA"
            "AgABAAEEBEAA/1wACyI6azogOiA52P9kABcAAU9wZW5KUEggVmVyIDAuMjYuMy7/kAAKAAAAAABSAAH/"
            "k8C7gF21efTbytYOoOhz/Pd7flcrxlmA/jtOf36HnHkD8XeGHBNh1BvXBpAAp0us/D8NR2oD0spkMbAB"
            "wJwA58ApS+YA/9k="
        ),
    }.items()
}
