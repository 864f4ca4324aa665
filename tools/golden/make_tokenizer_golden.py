#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/*.json: small byte-level BPE tokenizers trained by Hugging Face `tokenizers` on the text
below, and the ids and texts that library gives for a list of strings.

    python tools/golden/make_tokenizer_golden.py        (needs: pip install tokenizers)
"""
import hashlib
import json
import os
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SEED = 7
OUT = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "tokenizer")

TEXT = """A state space model keeps what it has read in a state of fixed size. It doesn't look back: what the state has
forgotten is gone, and what it holds costs the same whether the text was short or long. We've found that they're quick
to run, and that they'll take a long document in one pass.

    def scan(x, a, b):
        h = 0
        for t in range(len(x)):
            h = a[t] * h + b[t] * x[t]
            yield h

In 1960 a filter with 2 or 3 numbers guided a ship; today 1,048,576 numbers guide a sentence. The parts are old, the
size is new: 12 layers, 24 layers, 48 layers, 768 channels, 16 states for each of them.

Das Modell liest Wort für Wort, über Sätze und Absätze hinweg, und vergisst nicht alles. Où va la mémoire ? Elle reste
dans l'état, là où rien ne se perd d'un coup. Модель читает слово за словом и помнит то, что важно. 模型逐字阅读，并记住重要的内容。
モデルは言葉を一つずつ読みます。 그 모델은 단어를 하나씩 읽습니다. Το μοντέλο διαβάζει λέξη προς λέξη.

The model reads the model, the state reads the state; "again and again", said the reader, "and again!" (He didn't mean
it...) See https://example.org/a_b?c=d&e=f#g or write to someone@example.org. 3.14159 * 2 = 6.28318; 50% of $10 is $5.
"""

STRINGS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", " \t\n ", "a", " a", "a ", "hello", "Hello world", " Hello  world ",
    "The model reads the state.", "They'll say it's what we've found; they're right, I'd say, DON'T they'LL 'S",
    "1234567890 3.14 1,000", "x = [1, 2, 3]  # list", "    def f(x):\n        return x + 1\n", "a\r\nb\r\n\r\nc",
    "für über naïve café", "fu\u0308r cafe\u0301 A\u030a \u0041\u0323\u0307", "Å Å \u212b", "각 가\u11a8 \u1100\u1161\u11a8 \uac00\u11a7",
    "Модель читает", "模型逐字阅读，并记住。", "モデルは読みます。", "단어를 하나씩", "λέξη", "😀 👩‍👩‍👧 🏳️‍🌈", "\u00a0x\u00a0y\u2003z\u3000w",
    "\u180ea\u180e b", "\u200bx\u200b", "١٢٣ ⅷ ² ½", "e\u0301\u0301\u0301", "\ufeffbom", "\x00\x01\x7f\x80", "\U0010ffff\ufffe",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|endoftext", "<|pad|>x<|pad|>",
    "<mask> x <mask>", "x   <mask>   y", "<mask><mask>  <mask>", "word", "a word here", "sword words word-word word_", "word1 wordé word.",
    "<left>  x", "x  <left>", "x <left> <left>", "<right>   x", "<right>  <right> \n x", "x<right> <left>y", "\u1ebdtok e\u0303tok",
    "ааа aaaa aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "thethethethethethethethethethethethethethethethethestatestatestatestatestatestatethethethethe",
    "!!!!!!????....----====____((([[[{{{", "\"again\" 'again' ‘again’ “again” «again» —again–", "12345 123456 1234567 12 345",
    "\n\n\n x\n\n  y \n", " " * 30 + "x" + " " * 7, "\t\t\tx", "a\u2028b\u2029c\x85d", "İ ı ſ K 'ſ", "$5 €6 £7 + − × ÷ = ≠",
]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def strings():
    r = random.Random(SEED)
    parts = ["the", " model", "state", " ", "  ", "\n", "'s", "'S", "é", "e\u0301", "ß", "字", "ж", "7", "42", ".", "...", "<|endoftext|>",
             "<mask>", "word", "<left>", "<right>", "\u3000", "-", "😀", "\t", "\r\n", "\u0300", "ㄱ", "²"]
    return STRINGS + ["".join(r.choice(parts) for _ in range(r.randrange(2, 25))) for _ in range(60)]


def train(pre_tokenizer, normalizer, special, vocab=520):
    t = Tokenizer(models.BPE())
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=vocab, min_frequency=2, special_tokens=special, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def tokenizers_to_test():
    byte_level = pre_tokenizers.ByteLevel
    plain = train(byte_level(add_prefix_space=False), normalizers.NFC(), ["<|endoftext|>", "<|pad|>"])
    yield "trained", plain

    neox = Tokenizer.from_str(plain.to_str())  # GPT-NeoX: runs of spaces, looked for in normalised text
    neox.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    neox.add_tokens([AddedToken("\u1ebdtok", normalized=True)])
    yield "neox", neox

    flags = train(byte_level(add_prefix_space=True), None, ["<|endoftext|>"])
    flags.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False), AddedToken("<left>", lstrip=True, normalized=False)])
    flags.add_tokens([AddedToken("<right>", rstrip=True, normalized=True), AddedToken("word", single_word=True, normalized=True)])
    yield "prefix_space_and_flags", flags

    split = train(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), byte_level(add_prefix_space=False, use_regex=False)]),
                  None, ["<|endoftext|>"])
    as_json = json.loads(split.to_str())
    as_json["model"]["ignore_merges"] = True
    as_json["model"]["vocab"][" sentence".replace(" ", "\u0120")] = 520  # a word no merges lead to
    as_json["model"]["vocab"]["1234"] = 521
    yield "split_ignore_merges", Tokenizer.from_str(json.dumps(as_json))

    falcon = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), byte_level(add_prefix_space=False),
                                      pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    yield "falcon_stages", train(falcon, None, ["<|endoftext|>"])

    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)])
    yield "digits", train(digits, normalizers.NFC(), ["<|endoftext|>"], vocab=400)

    for behavior in ["removed", "merged_with_previous", "merged_with_next", "contiguous"]:
        stages = pre_tokenizers.Sequence([pre_tokenizers.Split("e", behavior), pre_tokenizers.Split(Regex("[a-m]+"), behavior, invert=True),
                                          byte_level(add_prefix_space=False, use_regex=False)])
        yield "split_" + behavior, train(stages, None, ["<|endoftext|>"], vocab=330)


def cases(t):
    for text in strings():
        t.encode_special_tokens = True
        plain = t.encode(text, add_special_tokens=False).ids
        t.encode_special_tokens = False
        ids = t.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids, "decoded": t.decode(ids, skip_special_tokens=False)}
        if plain != ids:
            case["ids_as_text"] = plain
        skipped = t.decode(ids, skip_special_tokens=True)
        if skipped != case["decoded"]:
            case["decoded_without_special"] = skipped
        yield case


def write(name, body):
    body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    head = {"made_by": "tools/golden/make_tokenizer_golden.py", "tokenizers": tokenizers.__version__, "seed": SEED,
            "sha256_of_body": hashlib.sha256(body.encode()).hexdigest()}
    with open(os.path.join(OUT, name + ".json"), "w", encoding="utf8") as f:
        f.write('{"head":' + json.dumps(head) + ',\n"body":' + body + "}\n")


def main():
    os.makedirs(OUT, exist_ok=True)
    for name, t in tokenizers_to_test():
        as_json = json.loads(t.to_str())
        if name != "trained":  # the older spelling of merges; both are read
            as_json["model"]["merges"] = [" ".join(pair) for pair in as_json["model"]["merges"]]
        write(name, {"training_text": TEXT if name == "trained" else "", "tokenizer": as_json, "cases": list(cases(t))})


if __name__ == "__main__":
    main()
