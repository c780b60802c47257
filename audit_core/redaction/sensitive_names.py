"""Which names say that their values are secret.

A name is sensitive when a run of its words is (``userPassword``, ``X-API-Key``, ``card number``, ``csrftoken``),
unless another word says that only something *about* the secret follows: a description, in the last word
(``token_type``, ``secret_name``), or a measure, in the first or the last one (``has_password``, ``max_tokens``,
``password_changed_at``). A measure is innocent as long as it is one: a number, a time, yes or no; of a secret that may
itself consist of digits (a PIN, a card number, a password) a date, yes or no, or a number of two digits, of five where
the name counts (``password_age``). In doubt a name is sensitive.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

Measure: TypeAlias = Literal["measure", "measure of digits", "count of digits"]
Sensitivity: TypeAlias = Literal["secret"] | Measure
Place: TypeAlias = Literal["query", "path"]

_KEYS = (
    "access account activation api app application auth certificate client consumer crypto deploy deployment "
    "encryption gpg hmac licence license master pgp private rsa secret server session shared signing ssh "
    "stripe subscription vault webhook"
).split()
_CODES = "auth backup mfa onetime otp recovery reset security sms twofactor verification fa".split()
_PASSES = "admin auth db email ftp login mail mysql redis root smtp user".split()

PHRASES: Final = frozenset(
    [f"{word}key{plural}" for word in _KEYS for plural in ("", "s")]
    + [f"{word}code{plural}" for word in _CODES for plural in ("", "s")]
    + [f"{word}pass" for word in _PASSES]
    + "newpw oldpw userpw pswd laravelsession oauthverifier otpauth resetlink slackwebhook".split()
    + "databaseuri dburi redisurl".split()
    + "password passwords passwd pwd passphrase passphrases passcode passcodes passkey passkeys".split()
    + "secret secrets token tokens credential credentials authorization cookie cookies".split()
    + "jwt bearer csrf xsrf otp totp pin cvv cvc csc sessid sessionid connectsid basicauth authheader".split()
    + "cardnumber cardno ccnumber ccnum creditcard creditcards debitcard debitcards pan pans".split()
    + "ssn ssns socialsecurity socialinsurance sinnumber iban ibans accountnumber accountnumbers".split()
    + "accountno acctnumber bankaccount routingnumber connectionstring connstring connstr dsn".split()
    + "databaseurl dburl brokerurl seedphrase recoveryphrase mnemonic securityanswer amzcredential".split()
    + "cardtrack trackdata magstripe magneticstripe".split()
    + "amzsignature googsignature codeverifier clientassertion samlresponse magiclink".split()
)
_NEVER_DIGITS: Final = frozenset(
    [f"{word}key{plural}" for word in _KEYS for plural in ("", "s")]
    + "cookie cookies credential credentials csrf jwt secret secrets token tokens xsrf".split()
)
# Too short, or too common, to look for among other words.
_WHOLE_NAMES: Final = frozenset(
    "pass pw sig auth xauth httpauth proxyauth userauth sid aiohttpsession usersession symfony".split()
)
# In a query these are OAuth's code, a signed URL's signature, an API's key and so on; elsewhere a country's.
IN_QUERIES: Final = frozenset("code signature assertion session key ticket".split())
# What a table of tokens, credentials, one-time codes calls the secret itself; and tables of secrets by another name.
IN_SECRETS: Final = frozenset("code digest hash key number value".split())
SECRET_TYPES: Final = frozenset("accessgrant grant oauthgrant".split())
ASKING: Final = frozenset(
    "prompt completion has is can allow allows require requires required num max min total count".split()
)
MEASURING: Final = frozenset(
    "accepted age allowed at attempts budget changed count counts created date disabled enabled expiration expire "
    "expired expires expiry failures history httponly in issued length lifetime limit max min on rate remaining "
    "required rotated second secure size time ttl until updated usage used valid "
    "seconds minutes hours days weeks months years".split()
)
_COUNTING: Final = frozenset("age count counts lifetime ttl seconds minutes hours days weeks months years".split())
DESCRIBING: Final = frozenset(
    "alg algorithm backend consent country domain endpoint field format issuer kind less name path policies policy "
    "provider samesite scope scopes state status strength type types validators version".split()
)
IDENTIFYING: Final = frozenset(("id", "pk", "uuid"))
_LONGEST_RUN: Final = 4

_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CARD_TRACK = re.compile(r"(?<![^\W\d_])track[\W_]{0,2}[12](?![0-9])")  # of a magnetic stripe
_WORD = re.compile(r"[^\W\d_]+")
_WORD_OR_NUMBER = re.compile(r"[^\W_]+")
_GLUED = re.compile(
    "(?:password|passwd|passphrase|passcode|sessionid|sessid|apikey|privatekey|secretkey|accesskey|creditcard"
    r"|cardnumber|accountnumber|connectionstring)(?:s\b)?|(?:tokens?|secrets?|cookies?|credentials?|pwd)\b"
)
_SOCIAL_SECURITY = "[0-9]{3}-[0-9]{2}-[0-9]{4}"
_YES_OR_NO = "true|false|yes|no|on|off|none|null|never|unlimited"
_UNIT = "(?:%|seconds?|minutes?|hours?|days?|weeks?|months?|years?|bytes)"
_DATE = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[-+][0-9:]{2,6})?)?"
)
_OF_DIGITS = (
    rf"{_YES_OR_NO}|[-+]?[0-9]{{1,2}}|[0-9]{{1,3}}(?:[HMS]| ?{_UNIT})|P(?:T?[0-9]{{1,3}}[YMWDHS]){{1,7}}|{_DATE}"
)
_SINCE_1970 = "1[0-9]{9}(?:[0-9]{3})?"
_MEASURES: Final = {  # thirteen digits and more are a card's, unless they begin as milliseconds since 1970 do
    "measure": re.compile(
        rf"(?!{_SOCIAL_SECURITY})"
        rf"(?:{_YES_OR_NO}|(?![2-9][0-9]{{12}})[-+]?P?[0-9][0-9:.,TZWDHMS+\-/ ]{{0,40}}{_UNIT}?)?",
        re.IGNORECASE,
    ),
    "measure of digits": re.compile(rf"(?:{_OF_DIGITS})?", re.IGNORECASE),
    "count of digits": re.compile(rf"(?:{_OF_DIGITS}|[0-9]{{1,5}}(?: ?{_UNIT})?|{_SINCE_1970})?", re.IGNORECASE),
}


def sensitivity(name: str, phrases: frozenset[str], place: Place | None = None) -> Sensitivity | None:
    """What the name says of its value; None where it says nothing. See the module's docstring for the rule.

    A parameter of a path names a resource: ``token_id`` one of the tokens, and a ``session_id`` is still secret.
    """
    words = words_of(name)
    if place == "path" and len(words) > 1 and words[-1] in IDENTIFYING:
        return "secret" if any("".join(words[start:]) in phrases for start in range(len(words))) else None
    found = {run for run in _runs(words) if run in phrases}
    if not found and "".join(words) not in _WHOLE_NAMES:
        return None
    if len(words) > 1 and words[-1] in DESCRIBING:
        return None
    if len(words) < 2 or (words[0] not in ASKING and words[-1] not in MEASURING):
        return "secret"
    if found <= _NEVER_DIGITS:
        return "measure"
    return "count of digits" if _counts(words) else "measure of digits"


def _counts(words: list[str]) -> bool:
    """``password_age`` is a number, and ``password_changed_at`` a time; ``pin_at`` may be anything."""
    return words[-1] in _COUNTING or (words[-1] == "at" and words[-2] in MEASURING)


def is_measure(text: str, kind: str) -> bool:
    """Whether a text is a number, a time, or yes or no, as innocent as this kind of measure has to be."""
    return kind in _MEASURES and _MEASURES[kind].fullmatch(text) is not None


def flat(name: str) -> str:
    """``homePhone2``, ``home_phone_2`` and ``HOME-PHONE-2`` are one name."""
    return "".join(_WORD_OR_NUMBER.findall(unicodedata.normalize("NFKC", name).casefold()))


def spoken(name: str) -> Iterable[str]:
    """``the api key`` may mean ``apikey``, or all three words."""
    letters = ["".join(_WORD.findall(word.casefold())) for word in name.split(" ")]
    return ("".join(letters[-count:]) for count in range(2, len(letters) + 1))


def words_of(name: str) -> list[str]:
    """Split over separators, digits, camelCase, and inside a glued word around what is unmistakable there."""
    split = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name)).casefold()
    words = _WORD.findall(_CARD_TRACK.sub(" cardtrack ", split))
    return _WORD.findall(_GLUED.sub(r" \g<0> ", " ".join(words)))


def _runs(words: list[str]) -> Iterable[str]:
    for start in range(len(words)):
        run = ""
        for word in words[start : start + _LONGEST_RUN]:
            run += word
            yield run
