"""From what the graph gives for a text to its score: sentiment, topics, intent, and how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.encoder.artefact import Artefact, Probe
from models.encoder.language import UNDETERMINED, guess_language, without_addresses
from models.encoder.manifest import LabelHead
from models.encoder.session import Encoder, EncoderOutput, Floats
from models.encoder.tokens import EncoderInput, TextEncoder, TextTokenizer
from models.encoder.topics import MAX_TOPICS, LabelMatcher
from models.errors import DeploymentError
from models.records import ScoredText, TextScore

#: The most confidence, and the most |polarity|, given to a text in a language the model was not taught,
#: or of which it knows less than half the words.
UNKNOWN_LANGUAGE_CONFIDENCE: Final = 0.2
UNKNOWN_TOKEN_SHARE: Final = 0.5

#: Words that fall into so many tokens each are not English, unless enough common words say so.
STRANGE_PIECES: Final = 2.4
#: Of many words, which are not all names, fewer are a sign: the least for words beyond the third.
STRANGE_PIECES_MORE: Final = 1.8

#: What another processor or package version may change of a probe; int8 products may saturate without VNNI.
PROBE_COSINE: Final = 0.97
PROBE_PROBABILITY: Final = 0.1

SCORE_DECIMALS: Final = 4
TOPIC_DECIMALS: Final = 3


@dataclass(frozen=True, slots=True)
class ScoreReader:
    """Reads one artefact's outputs; `labels` is the deployment's catalogue. Safe in many threads."""

    artefact: Artefact
    tokenizer: TextTokenizer
    labels: LabelMatcher

    def read(self, text: str, output: EncoderOutput, unknown_share: float, cut: bool) -> ScoredText:
        """The score of one text, of whose words the tokenizer did not know `unknown_share`."""
        language = self._language(text)
        known = language in self.artefact.languages and unknown_share < UNKNOWN_TOKEN_SHARE
        sentiment, confidence = self._sentiment(output, known)
        polarity = round(sentiment[2] - sentiment[0], SCORE_DECIMALS)
        intensity = abs(polarity) if output.intensity is None else float(output.intensity[0])
        score = TextScore(
            sentiment=sentiment,
            polarity=polarity,
            intensity=round(min(max(intensity, 0.0), 1.0), SCORE_DECIMALS),
            confidence=confidence,
            topics=self._topics(output),
            intent=self._intent(output, text, polarity) if unknown_share < 1 else None,
            language=language,
            model_version=self.artefact.version,
        )
        return ScoredText(score, output.embedding.astype("<f2").tobytes(), cut)

    def _language(self, text: str) -> str:
        """The guess; Latin text that only counts as English must also fall into English pieces."""
        guess = guess_language(text)
        if guess.sure:
            return guess.tag
        pieces, words = self.tokenizer.pieces_of_words(without_addresses(text))
        strange = STRANGE_PIECES * min(words, 3) + STRANGE_PIECES_MORE * max(words - 3, 0)
        return UNDETERMINED if pieces >= strange else guess.tag

    def _sentiment(self, output: EncoderOutput, known: bool) -> tuple[tuple[float, float, float], float]:
        if output.sentiment is None:
            return trusted_sentiment(np.full(3, 1 / 3, np.float32), known)[0], 0.0
        return trusted_sentiment(fold_sentiment(output.sentiment), known)

    def _topics(self, output: EncoderOutput) -> tuple[tuple[str, float], ...]:
        head, given = self.artefact.contract.topics, output.topics
        found = [] if head is None or given is None else _reached(head, given)
        if head is None or not head.replace:
            taken = set(() if head is None else head.names)
            found += [entry for entry in self.labels.topics(output.embedding) if entry[0] not in taken]
        return tuple((name, round(value, TOPIC_DECIMALS)) for name, value in found[:MAX_TOPICS])

    def _intent(self, output: EncoderOutput, text: str, polarity: float) -> str | None:
        head, given = self.artefact.contract.intents, output.intents
        if head is not None and given is not None:
            best = int(given.argmax())
            if given[best] >= head.thresholds[best] and head.names[best] not in head.out_of_scope:
                return head.names[best]
            if head.replace:
                return None
        return self.labels.intent(output.embedding, text, polarity)


def _reached(head: LabelHead, probabilities: Floats) -> list[tuple[str, float]]:
    """(name, probability) of the labels at or over their thresholds, likeliest first."""
    reached = [
        (name, float(p))
        for name, p, threshold in zip(head.names, probabilities, head.thresholds, strict=True)
        if p >= threshold and name not in head.out_of_scope
    ]
    return sorted(reached, key=lambda entry: (-entry[1], entry[0]))


def fold_sentiment(probabilities: Floats) -> Floats:
    """Negative, neutral and positive from 2 to 5 classes, worst first; a middle class is the neutral one."""
    half = len(probabilities) // 2
    negative, positive = probabilities[:half].sum(), probabilities[-half:].sum()
    middle = probabilities[half] if len(probabilities) % 2 else 0.0
    return np.array([negative, middle, positive], np.float32)


def trusted_sentiment(probabilities: Floats, known: bool) -> tuple[tuple[float, float, float], float]:
    """Rounded probabilities and the confidence in them.

    Confidence is the probability of the likeliest label: the heads' logits carry a temperature fitted on
    texts they did not learn from, so .8 is right about four times in five. A text that the model cannot
    read is mixed with the uniform distribution, so that neither number says more than
    `UNKNOWN_LANGUAGE_CONFIDENCE`.
    """
    p = probabilities.astype(np.float64)
    if known:
        return _rounded(p), round(float(p.max()), SCORE_DECIMALS)
    mixed = (1 - UNKNOWN_LANGUAGE_CONFIDENCE) / len(p) + UNKNOWN_LANGUAGE_CONFIDENCE * p
    return _rounded(mixed), UNKNOWN_LANGUAGE_CONFIDENCE


def _rounded(p: NDArray[np.float64]) -> tuple[float, float, float]:
    """Probabilities with few decimals that still add up to 1; neutral takes the remainder."""
    negative, positive = round(float(p[0]), SCORE_DECIMALS), round(float(p[2]), SCORE_DECIMALS)
    return negative, round(max(0.0, 1 - negative - positive), SCORE_DECIMALS), positive


def require_probes(artefact: Artefact, inputs: TextEncoder, encoder: Encoder) -> None:
    """Raises DeploymentError when an artefact does not give here what it gave when it was exported."""
    if faults := probe_faults(artefact.probes, inputs, encoder):
        raise DeploymentError(
            f"{artefact.path}: {'; '.join(faults)}; export it again, or use the processor or package "
            "versions that it was made for"
        )


def probe_faults(probes: Sequence[Probe], inputs: TextEncoder, encoder: Encoder) -> list[str]:
    """How the probes' outputs differ from the stored ones; empty when they do not."""
    features = inputs.encode([probe.text for probe in probes])
    found = (_probe_fault(*pair, encoder) for pair in zip(probes, features, strict=True))
    return [fault for fault in found if fault]


def _probe_fault(probe: Probe, features: EncoderInput, encoder: Encoder) -> str:
    if tuple(features.ids) != probe.input_ids:
        return f"the tokenizer makes other tokens of {probe.text!r} than the model's"
    [output] = encoder.run([features])
    cosine = float(output.embedding @ np.array(probe.embedding, np.float32))
    if not cosine >= PROBE_COSINE:
        return f"the embedding of {probe.text!r} has cosine {cosine:.3f} to the exported one"
    if output.sentiment is None or not probe.sentiment:
        return ""
    moved = float(np.abs(output.sentiment - np.array(probe.sentiment, np.float32)).max())
    if moved <= PROBE_PROBABILITY:
        return ""
    return f"a probability of {probe.text!r} is {moved:.3f} away from the exported one"
