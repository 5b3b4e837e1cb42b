"""A light guess at a text's language: by script, and for Latin letters by common words.

Made for one question only: may the heads be trusted on this text? Latin text without a sign of another
language counts as English; links, addresses and handles have no say. Cantonese is told from Mandarin.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

UNDETERMINED: Final = "und"
MAX_CHARACTERS: Final = 2_000  # a longer text is judged by its beginning
SURE_SHARE: Final = 0.25  # of a text's words, that must be common English ones for it to be surely English

_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff\u31f0-\u31ff]")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]")),
    ("ko", re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")),
    ("ru", re.compile("[\u0400-\u052f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_ACCENTED = re.compile("[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_WORD = re.compile("[a-z\u00df-\u024f\u1e00-\u1eff']+")
# Characters that Cantonese has and written Mandarin has not; alone, 唔 is a sigh in both.
_CANTONESE = re.compile("[嘅咗喺啲嚟冇佢哋嘢嗰噉咁㗎]|唔[\u3400-\u9fff]")
_CANTONESE_SHARE: Final = 1 / 50  # of the ideographs; fewer are a quotation
# Links, handles, what follows the @ of e-mail, and what `redact` puts in the place of personal data.
_ADDRESS = re.compile(r"(?:https?://|www\.)[!-~]+|@[\w.-]+|\[(?:email|phone|card)\]", re.ASCII)
_DOMAIN = re.compile(
    r"\b[\w-]+(?:\.[\w-]+)*\.(?:com|net|org|info|io|cn)(?:\.[a-z]{2})?\b(?:/[!-~]*)?", re.ASCII
)
_DOMAIN_END = re.compile(r"\.(?:com|net|org|info|io|cn)\b", re.ASCII)  # found sooner than a domain's start
# One ideograph or kana says about as much as four Latin letters.
_DENSE: Final = frozenset({"ja", "zh", "ko"})
_DENSE_WEIGHT: Final = 4

_COMMON_WORDS: Final[dict[str, str]] = {
    "en": "the a an and or of to in is it its it's this that these those was were be been are am i i'm i've "
    "my me you your he she they we our their not no don't doesn't didn't can't won't for with on at "
    "as but so if just very too than then would could should will have has had do does did get got "
    "all out up after before about from by good great nice love loved bad poor too really well fit "
    "fits size what which who how when because there here more most some any "
    "worst worse best better perfect perfectly excellent amazing awesome awful terrible "
    "horrible broke broken works worked working work stopped waste money product quality price "
    "cheap cheaply expensive overpriced refund return returned recommend recommended "
    "disappointed disappointing happy satisfied junk crap garbage rubbish trash scam fake "
    "useless comfortable comfy itchy sturdy flimsy beautiful gorgeous pretty cute nice size "
    "small large color arrived shipping delivery fast quickly late wrong item never ever again "
    "buy bought order ordered received seller service customer sound battery screen star stars "
    "five thanks thank okay ok solid easy hate hated wish looks look feels made thing stuff "
    "worth "
    # Words of other languages too, which would speak against English.
    "super come bra man plus war son men male die finger adore content till hat heel met van im dan la den "
    "per w y",
    "de": "der die das und ist nicht ich ein eine einen einem einer es sehr gut mit auf für zu von dem den "
    "war habe hat nach auch aber wie bei nur noch wenn schlecht leider schnell gerne wir sie er mir "
    "mich kein keine ganz alles qualität lieferung kaputt gegangen schön super wurde sind zum zur im "
    "funktioniert einwandfrei miserabel verarbeitet verarbeitung totaler schrott bin "
    "begeistert passt perfekt klasse finger weg absolut empfehlenswert empfehlen nie wieder "
    "toll tolles tolle tolle super zufrieden unzufrieden enttäuscht enttäuschend leider "
    "produkt preis teuer billig geld zurück bestellt angekommen defekt gefällt danke hält "
    "lange schnelle schlechte guter gute gutes sind waren hier man kann würde mehr immer noch "
    "ja nein hervorragend katastrophe mangelhaft unbrauchbar größe",
    "fr": "le la les un une des et est pas je tu il elle nous vous ils très bon bien mauvais avec pour sur "
    "dans que qui ne ce cette ces mais plus trop j'ai c'est n'est qualité livraison produit du au aux "
    "son sa ses mon ma mes fait après été tout être comme déçu parfait "
    "nul nulle arnaque totale fuir déteste adore excellent excellente rapide parfaite mauvais "
    "mauvaise recommande vivement fonctionne vraiment cassé jours satisfait satisfaite content "
    "contente génial super article commande reçu prix cher argent merci rien jamais encore "
    "aussi sans beaucoup trop petit grande taille acheter achat conforme décevant décevante "
    "horrible catastrophe merde quelle",
    "es": "el la los las un una unos y es no que de en muy bueno buena bien mal malo mala con para por se "
    "lo le me mi su está pero más este esta esto como después día fue son calidad producto llegó todo "
    "nada he ha hay rápido excelente encanta recomiendo "
    "funciona perfecto perfecta estoy contento contenta devuelto devolver horrible experiencia "
    "basura pésimo pésima excelente buena malísimo servicio roto rota compren comprar compra "
    "compré recomendable recomendado encantó dinero precio caro barato gracias mejor peor "
    "bonito bonita feo rápida entrega tarde nunca siempre también sin mucho poco talla pequeño "
    "grande decepcionado satisfecho sirve todos asco malisimo",
    "pt": "o os as um uma e é não que de em muito bom boa ruim com para por se eu meu minha seu sua está "
    "mas mais este esta isso como depois dia foi são qualidade produto chegou tudo nada ótimo do da "
    "dos das no na adorei recomendo "
    "péssimo péssima adorei gostei comprei compra entrega rápida preço caro barato obrigado "
    "melhor pior bonito excelente perfeito veio quebrado defeito dinheiro nunca sempre também "
    "sem tamanho pequeno grande satisfeito decepcionado todos nao",
    "it": "il lo la gli le un uno una e è non che di in molto buono buona bene male cattivo con per si mi "
    "mio mia ho ha ma più questo questa come dopo giorno sono qualità prodotto arrivato tutto ottimo "
    "del della dei nel consiglio "
    "pessimo pessima ottima funziona perfetto perfetta contento contenta soddisfatto deluso "
    "delusa acquisto comprato consegna veloce prezzo caro economico soldi grazie migliore "
    "peggiore bello bella brutto rotto mai sempre anche senza taglia piccolo grande "
    "consigliato sconsigliato sono schifo nessun",
    "nl": "de het een en is niet ik dat die van in op te zeer goed slecht met voor maar ook heel erg wel "
    "geen zijn was heb heeft naar bij als mooi kwaliteit levering kapot snel dit deze nog na dag mijn "
    "werkt perfect tevreden ontevreden product prima uitstekend waardeloos aanrader besteld "
    "geleverd prijs duur goedkoop geld terug bedankt beter mooie slechte goede snelle nooit "
    "altijd ook zonder teleurgesteld maat klein groot",
    "sv": "och är inte jag det en ett som på för med av till den mycket bra dålig men var har efter också "
    "kvalitet snabb köp köpa nöjd leverans pengar fungerar",
    "da": "og er ikke jeg det en et som på til af med har meget dårlig darlig kvalitet køb tilfreds "
    "anbefales hurtig levering penge virker efter dag godt kan stykker lille størrelsen",
    "no": "og er ikke jeg det en et som på til av med har veldig dårlig kvalitet kjøp kjøpe fornøyd "
    "anbefales rask levering penger fungerer etter dag kjempebra",
    "af": "nie baie dit het vir goeie gehalte tevrede aflewering moenie uitstekende",
    "pl": "i nie jest to się w na z do bardzo dobry dobra dobrze ale jak po za że mam był była jakość "
    "produkt polecam "
    "polecam super świetny zły słaby fatalny zadowolony zadowolona dostawa szybka cena "
    "dobra "
    "działa zepsuty bardzo nigdy sie jakosc dziala swietny",
    "cs": "je není neni se na že ze jsem jsou byl velmi moc dobrá dobrý dobře dobre špatný špatná spatna "
    "kvalita kvalitu nekupujte doporučuji doporucuji spokojený spokojeny výrobek vyrobek zboží zbozi rychlé "
    "rychle dodání dodani peníze penize nefunguje hned příliš prilis při už také",
    "sk": "je nie sa som veľmi velmi zlá dobrý dobrá kvalita nekupujte odporúčam odporucam spokojný spokojny "
    "výrobok vyrobok peniaze rýchle dodanie nefunguje ktorý",
    "hr": "je nije su se na vrlo jako dobar dobra loša losa kvaliteta kvalitet proizvod preporučujem "
    "preporucujem zadovoljan zadovoljna dostava brza novac novca nakon samo što koji kupujte",
    "sl": "je ni sem zelo dober dobra slaba kakovost priporočam priporocam zadovoljen zadovoljna izdelek "
    "dostava hitra denar kupujte vsem",
    "hu": "és nem nagyon egy az hogy csak már rossz minőség minoseg termék termek ajánlom ajanlom elégedett "
    "elegedett vagyok szállítás szallitas gyors pénz pénzt penzt után utan kicsi méret meret működik mukodik "
    "vissza kiváló kivalo szép senki rögtön ez",
    "ro": "și si este nu foarte bună buna prost proasta proastă slaba slabă pentru din cu mai dar că sunt "
    "produs produsul calitate calitatea recomand bani banii după dupa mulțumit multumit livrare livrarea "
    "repede preț pret mult prea nimic placut plăcut acest această multumesc",
    "fi": "ei että tämä tama oli mutta niin kuin erittäin erittain hyvä hyva huono laatu olen tyytyväinen "
    "tyytyvainen suosittelen nopea toimitus tuote osta älä rikki paljon liian toimi jälkeen",
    "et": "ei väga vaga halb hea kvaliteet toode rahul soovitan kiire tarne olen aga raha üldse",
    "lv": "ļoti loti nav ir laba slikta kvalitāte kvalitate prece produkts iesaku piegāde piegade nauda esmu "
    "pēc",
    "lt": "labai ir yra geras gera prasta kokybė kokybe prekė preke rekomenduoju pristatymas greitas pinigai "
    "esu patenkintas po nes kad",
    "sq": "shumë shume është eshte nuk dhe për një nje të kjo keqe cilësi cilesi produkt blini",
    "ca": "molt molta mala qualitat amb però és els una que no el estic content recomano després enviament "
    "aquest aquesta",
    "eu": "oso baina kalitate txarra gomendatzen erosi gustatu",
    "tl": "ang ng mga sa ako po siya naman hindi maganda ganda pangit sobrang sayang salamat pero kasi ito "
    "yung nasira bumili talaga wala agad huwag",
    "hi": "hai hain nahi nahin bahut bohot bohat accha acha achha acchi bilkul kharab bekar ghatiya mujhe "
    "mein kya ka ki ke aur wala paisa paise kharido pasand aaya raha karta liye lekin bhi kaam yaar wapas "
    "cheez theek shukriya",
    "bn": "khub bhalo kharap ami amar kintu ekta taka",
    "id": "dan yang ini itu tidak bagus jelek sekali banget barang barangnya kecewa puas "
    "cepat sesuai pengiriman murah mahal saya sangat jangan beli terima kasih untuk dengan dari juga sudah "
    "belum akan rusak setelah kualitas kualiti penjual teruk boleh saja uang",
    "vi": "và là không rất tốt kém hàng chất lượng đẹp giao nhanh hài lòng khong luong pham giao mua duoc "
    "tien phi tôi này được của",
    "tr": "ve bir bu çok iyi kötü değil için ile ama ne gibi daha ürün kalite geldi güzel sonra hızlı "
    "tavsiye ederim "
    "harika berbat kötü güzel beğendim beğenmedim memnun kaldım değmez teşekkürler cok kotu degil icin urun "
    "guzel etmiyorum almayin kargo",
    "sw": "sana kwa hii nzuri mbaya bidhaa haraka baada siku moja asante kila mtu",
    "ru": "ochen plokho plokhoe khorosho horosho kachestvo tovar spasibo rekomenduyu otlichno",
    "ja": "desu masu totemo arigatou gozaimasu kore saiaku sugoi",
    # Chinese in Latin letters: the model knows the language, but not its letters.
    UNDETERMINED: "hao bu zhege zhiliang feichang xihuan tuijian maijia manyi haoyong dongxi goumai "
    "yidian wuliu kefu shouji xiaci taidu keyi xiexie",
}


class _Profiles(NamedTuple):
    """The common words, by what they say."""

    english: dict[str, float]  # 1, or 1/n where n languages have the word
    others: dict[str, tuple[str, ...]]  # the languages of a word that English has not


@lru_cache(maxsize=1)
def _profiles() -> _Profiles:
    languages: defaultdict[str, list[str]] = defaultdict(list)
    for language, words in _COMMON_WORDS.items():
        for word in dict.fromkeys(words.split()):
            languages[word].append(language)
    return _Profiles(
        {word: 1 / len(tags) for word, tags in languages.items() if "en" in tags},
        {word: tuple(tags) for word, tags in languages.items() if "en" not in tags},
    )


class LanguageGuess(NamedTuple):
    """A BCP 47 primary tag, and whether enough spoke for it."""

    tag: str
    sure: bool  # False for what counts as English although few of its words are common ones


def detect_language(text: str) -> str:
    """A BCP 47 primary tag; "und" when the text has no letters of a script known here.

    Mixed scripts go to the one that carries most; ideographs weigh four letters. Addresses are passed over.
    """
    return guess_language(text).tag


def guess_language(text: str) -> LanguageGuess:
    """As `detect_language`, and how sure that is."""
    text = without_addresses(text[:MAX_CHARACTERS])
    if text.isascii():  # most are, and ten searches cost more than the words
        return _latin_language(text) if _LATIN.search(text) else LanguageGuess(UNDETERMINED, False)
    weights: dict[str, int] = {
        tag: len(script.findall(text)) * (_DENSE_WEIGHT if tag in _DENSE else 1) for tag, script in _SCRIPTS
    }
    if weights["ja"]:  # kana settle what ideographs leave open
        weights["ja"] += weights.pop("zh")
    weights["latin"] = len(_LATIN.findall(text))
    best = max(weights, key=lambda tag: weights[tag])
    if weights[best] == 0:
        return LanguageGuess(UNDETERMINED, False)
    if best == "latin":
        return _latin_language(text)
    if best == "zh" and _is_cantonese(text, weights[best] // _DENSE_WEIGHT):
        return LanguageGuess("yue", True)
    return LanguageGuess(best, True)


def _is_cantonese(text: str, ideographs: int) -> bool:
    return len(_CANTONESE.findall(text)) > _CANTONESE_SHARE * ideographs


def without_addresses(text: str) -> str:
    """The text without what is written alike in every language: links, domains, e-mail addresses, handles."""
    if "@" in text or "://" in text or "www." in text or "[" in text:
        text = _ADDRESS.sub(" ", text)
    return _DOMAIN.sub(" ", text) if _DOMAIN_END.search(text) else text


def _latin_language(text: str) -> LanguageGuess:
    """English, unless more of the common words are those of others: then the one that has most of them."""
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    shares, others = _profiles()
    english = sum([shares[word] for word in words if word in shares])
    foreign = [others[word] for word in words if word in others]
    if len(foreign) > english:
        return LanguageGuess(_commonest(foreign), True)
    if not english and _ACCENTED.search(text):
        return LanguageGuess(UNDETERMINED, False)
    return LanguageGuess("en", english >= SURE_SHARE * len(words))


def _commonest(found: Iterable[tuple[str, ...]]) -> str:
    """The language with most of the words; a word that n languages share gives each 1/n."""
    evidence: defaultdict[str, float] = defaultdict(float)
    for languages in found:
        for language in languages:
            evidence[language] += 1 / len(languages)
    return max(evidence, key=lambda language: evidence[language])
