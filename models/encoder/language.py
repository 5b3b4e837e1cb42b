"""A light guess at a text's language: by script, and for Latin letters by common words.

Made for one question only: may the heads be trusted on this text? Latin text without a sign of another
language counts as English.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import Final, NamedTuple

UNDETERMINED: Final = "und"
MAX_CHARACTERS: Final = 2_000  # a longer text is judged by its beginning

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
_WORD = re.compile("[a-z\u00df-\u024f\u1e00-\u1eff']+")
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
    "worth",
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
    "horrible catastrophe",
    "es": "el la los las un una unos y es no que de en muy bueno buena bien mal malo mala con para por se "
    "lo le me mi su está pero más este esta esto como después día fue son calidad producto llegó todo "
    "nada he ha hay rápido excelente encanta recomiendo "
    "funciona perfecto perfecta estoy contento contenta devuelto devolver horrible experiencia "
    "basura pésimo pésima excelente buena malísimo servicio roto rota compren comprar compra "
    "compré recomendable recomendado encantó dinero precio caro barato gracias mejor peor "
    "bonito bonita feo rápida entrega tarde nunca siempre también sin mucho poco talla pequeño "
    "grande decepcionado satisfecho",
    "pt": "o os as um uma e é não que de em muito bom boa ruim com para por se eu meu minha seu sua está "
    "mas mais este esta isso como depois dia foi são qualidade produto chegou tudo nada ótimo do da "
    "dos das no na adorei recomendo "
    "péssimo péssima adorei gostei comprei compra entrega rápida preço caro barato obrigado "
    "melhor pior bonito excelente perfeito veio quebrado defeito dinheiro nunca sempre também "
    "sem tamanho pequeno grande satisfeito decepcionado",
    "it": "il lo la gli le un uno una e è non che di in molto buono buona bene male cattivo con per si mi "
    "mio mia ho ha ma più questo questa come dopo giorno sono qualità prodotto arrivato tutto ottimo "
    "del della dei nel consiglio "
    "pessimo pessima ottima funziona perfetto perfetta contento contenta soddisfatto deluso "
    "delusa acquisto comprato consegna veloce prezzo caro economico soldi grazie migliore "
    "peggiore bello bella brutto rotto mai sempre anche senza taglia piccolo grande "
    "consigliato sconsigliato sono",
    "nl": "de het een en is niet ik dat die van in op te zeer goed slecht met voor maar ook heel erg wel "
    "geen zijn was heb heeft naar bij als mooi kwaliteit levering kapot snel dit deze nog na dag mijn "
    "werkt perfect tevreden ontevreden product prima uitstekend waardeloos aanrader besteld "
    "geleverd prijs duur goedkoop geld terug bedankt beter mooie slechte goede snelle nooit "
    "altijd ook zonder teleurgesteld maat klein groot",
    "sv": "och är inte jag det en ett som på för med av till den mycket bra dålig men var har efter också "
    "kvalitet snabb",
    "pl": "i nie jest to się w na z do bardzo dobry dobra dobrze ale jak po za że mam był była jakość "
    "produkt polecam "
    "polecam super świetny zły słaby fatalny zadowolony zadowolona dostawa szybka cena "
    "dobra "
    "działa zepsuty bardzo nigdy",
    "id": "dan yang ini itu tidak bagus jelek sekali banget barang kecewa puas "
    "cepat sesuai pengiriman murah mahal",
    "vi": "và là không rất tốt kém hàng chất lượng đẹp giao nhanh hài lòng",
    "tr": "ve bir bu çok iyi kötü değil için ile ama ne gibi daha ürün kalite geldi güzel sonra hızlı "
    "tavsiye ederim "
    "harika berbat kötü güzel beğendim beğenmedim memnun kaldım değmez teşekkürler",
}


@lru_cache(maxsize=1)
def _profiles() -> dict[str, tuple[str, ...]]:
    """Each common word and the languages that have it."""
    profiles: dict[str, tuple[str, ...]] = {}
    for language, words in _COMMON_WORDS.items():
        for word in set(words.split()):
            profiles[word] = (*profiles.get(word, ()), language)
    return profiles


class LanguageGuess(NamedTuple):
    """A BCP 47 primary tag, and whether anything spoke for it."""

    tag: str
    sure: bool  # False for Latin text without one common word, which counts as English


def detect_language(text: str) -> str:
    """A BCP 47 primary tag; "und" when the text has no letters of a script known here.

    Mixed scripts go to the one that carries most; ideographs weigh four letters.
    """
    return guess_language(text).tag


def guess_language(text: str) -> LanguageGuess:
    """As `detect_language`, and how sure that is."""
    text = text[:MAX_CHARACTERS]
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
    return _latin_language(text) if best == "latin" else LanguageGuess(best, True)


def _latin_language(text: str) -> LanguageGuess:
    """The language with most of the common words; a word shared by n languages gives each 1/n."""
    profiles = _profiles()
    evidence: defaultdict[str, float] = defaultdict(float)
    for word in _WORD.findall(text.lower().replace("\u2019", "'")):
        languages = profiles.get(word, ())
        for language in languages:
            evidence[language] += 1 / len(languages)
    if not evidence:
        return LanguageGuess("en", False) if text.isascii() else LanguageGuess(UNDETERMINED, False)
    best, weight = max(evidence.items(), key=lambda entry: entry[1])
    if weight > evidence["en"]:
        return LanguageGuess(best, True)
    return LanguageGuess("en", True)
