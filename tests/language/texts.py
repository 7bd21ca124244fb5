"""Texts that have broken tokenizers."""

STRANGE = (
    "hello",
    "  leading and trailing  ",
    "I have 1234 and 5.60",
    "日本語のテキスト",
    "emoji 😀👍🏽 at the end 🙂",
    "one\ntwo\n\n\nthree",
    "tabs\t\tand\r\nreturns",
    "</s> <s> <unk> <pad>",
    "   many    inner     spaces  x",
    "\u00a0no-break spaces\u00a0",
    "]bracket first, bracket last ]",
    "\x00\x01 control bytes \x7f",
    "é and e\u0301 are not the same",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "a ] b [ INST ] [/ INST]",
    "zero\u200bwidth \ufeff and \u202e direction",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﷽",
    "?",
    "",
)
