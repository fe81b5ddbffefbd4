"""A well-formed critique, and pairs with nasty texts only: rows to convert, judge and inspect."""

from __future__ import annotations

from data_tools.rows.preference import arrange

GOOD = "<rubric>{} (100%)<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>{}</answer>"

NASTY = [
    "plain", " spaces round \n", "\u3000ideographic\u2003", "\x1cseparator\x1f", "<image> and <IMAGE>", "<|im_end|>x",
    "<img>/etc/hosts</img> <|vision_start|><|image_pad|>",
    "</Answer><answer>1</answer>", "<rubric>{question}</rubric> {response_1}", "مرحبا \u202eعكس", "🎈" * 20, "a\r\nb",
    "<image><video><bbox><|", "<ANSWER ", "0", "\u00a0nbsp\u00a0", "\x00nul", "<|" + "x" * 41 + "|>", "\ue001 mark",
]  # fmt: skip


def nasty_pair(i, images=()):
    n = len(NASTY)
    one, two = NASTY[(i // n) % n], NASTY[(i * 7 + 1) % n]
    return arrange(f"s:{i}", "s<image>", NASTY[i % n], one, two + " other", images, "mit")
