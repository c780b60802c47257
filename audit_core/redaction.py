"""What never entered cannot leak: secrets are taken out of an event before anything is hashed.

A name is sensitive when a run of its words is (``userPassword``, ``X-API-Key``, ``card number``,
``csrftoken``), unless another word says that only something *about* the secret follows: the first one
(``has_password``, ``max_tokens``) or the last one (``token_type``, ``password_changed_at``). In doubt a name
is sensitive.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import quote, unquote_plus

from audit_core.canonical import Json, encode
from audit_core.clean import clean
from audit_core.errors import ConfigurationError

Rule: TypeAlias = Literal["replace", "mask", "hash", "keep"]

REDACTED: Final = "[redacted]"
MASK: Final = "••••"
_HASH_PREFIX: Final = "hmac-sha256:"
_MASKED = re.compile(f"{MASK}.{{0,4}}", re.DOTALL)
_HASHED = re.compile(f"{_HASH_PREFIX}[0-9a-f]{{64}}")
_URL_HEADERS: Final = ("referer", "location", "content-location")

# --- Sensitive names

_KEYS = "access api auth crypto encryption hmac master private rsa secret session shared signing ssh".split()
_CODES = "auth backup mfa onetime otp recovery security sms twofactor verification fa".split()
_PASSES = "admin auth db email ftp login mail mysql redis root smtp user".split()

PHRASES: Final = frozenset(
    [f"{word}key{plural}" for word in _KEYS for plural in ("", "s")]
    + [f"{word}code{plural}" for word in _CODES for plural in ("", "s")]
    + [f"{word}pass" for word in _PASSES]
    + "password passwords passwd pwd passphrase passphrases passcode passcodes passkey passkeys".split()
    + "secret secrets token tokens credential credentials authorization cookie cookies".split()
    + "jwt bearer csrf xsrf otp totp pin cvv cvc csc sessid sessionid connectsid basicauth authheader".split()
    + "cardnumber cardno ccnumber ccnum creditcard creditcards debitcard debitcards pan pans".split()
    + "ssn ssns socialsecurity socialinsurance sinnumber iban ibans accountnumber accountnumbers".split()
    + "accountno acctnumber bankaccount routingnumber connectionstring connstring connstr dsn".split()
    + "databaseurl dburl brokerurl seedphrase recoveryphrase mnemonic securityanswer amzcredential".split()
    + ["amzsignature", "googsignature"]
)
_WHOLE_NAMES: Final = frozenset(("pass", "pw", "sig"))  # too short to look for among other words
_ASKING: Final = frozenset("has is can allow allows require requires required num max min total count".split())
_ABOUT: Final = frozenset(
    "accepted age alg algorithm allowed at attempts backend budget changed consent count counts created "
    "date disabled domain enabled endpoint expiration expire expired expires expiry failures field format "
    "history httponly in issued issuer kind length less lifetime limit max min name on path policies "
    "policy provider rate remaining required rotated samesite scope scopes second secure size state "
    "status strength time ttl type types until updated usage used valid validators version".split()
)
_LONGEST_RUN: Final = 4

_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_WORD_OR_NUMBER = re.compile(r"[^\W_]+")
_GLUED = re.compile(
    "(?:password|passwd|passphrase|passcode|sessionid|sessid|apikey|privatekey|secretkey|accesskey|creditcard"
    r"|cardnumber|accountnumber|connectionstring)(?:s\b)?|(?:tokens?|secrets?|cookies?|credentials?|pwd)\b"
)


def is_sensitive(name: str) -> bool:
    """Whether values of this name are secret; see the module's docstring for the rule."""
    return _is_sensitive(name) if len(name) < 128 else _matches(name, PHRASES)


@lru_cache(maxsize=4096)
def _is_sensitive(name: str) -> bool:
    return _matches(name, PHRASES)


def _matches(name: str, phrases: frozenset[str]) -> bool:
    words = _words(name)
    if len(words) > 1 and (words[0] in _ASKING or words[-1] in _ABOUT):
        return False
    return any(run in phrases for run in _runs(words)) or "".join(words) in _WHOLE_NAMES


def _words(name: str) -> list[str]:
    """Split over separators, digits, camelCase, and inside a glued word around what is unmistakable there."""
    split = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name)).casefold()
    words = _WORD.findall(split)
    return _WORD.findall(_GLUED.sub(r" \g<0> ", " ".join(words)))


def _runs(words: list[str]) -> Iterable[str]:
    for start in range(len(words)):
        run = ""
        for word in words[start : start + _LONGEST_RUN]:
            run += word
            yield run


def _flat(name: str) -> str:
    """``homePhone2``, ``home_phone_2`` and ``HOME-PHONE-2`` are one name."""
    return "".join(_WORD_OR_NUMBER.findall(unicodedata.normalize("NFKC", name).casefold()))


# --- What free text may contain

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_CREDENTIALS = re.compile(r"(?<![^\W\d_])(Bearer|Basic)([ \t]{1,8})([\w.~+/=-]{8,})", re.IGNORECASE)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){0,3}")
_USERINFO = re.compile(r"(://[^\s/?#:@\"'<>]*:)[^\s/?#\"'<>]*@")
_SSN = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")
# Cards do not begin with 0, nor with 1 as milliseconds since 1970 do. Grouped as on a card a number is found
# among others too (hence the lookahead: they overlap), grouped in another way only where it stands alone.
_GROUPED_CARDS = re.compile(
    r"(?<![0-9])(?=([2-9]"
    r"(?:[0-9]{12,18}|[0-9]{3}(?:[ -][0-9]{4}){3}|[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})"
    r")(?![0-9]))"
)
_OTHER_CARDS = re.compile(r"(?<![0-9])(?<![0-9][ -])(?=([2-9](?:[ -]?[0-9]){12,18})(?![ -]?[0-9]))")
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")

# A name (with the two words before it), a separator, and, looked for after sensitive names only, the value.
# Possessive (++) and starting only where a run starts: no text makes them read a character many times.
_NAME = re.compile(r"(?<![\w.-])([\w.-]++(?: [\w.-]++){0,2})[\\\"'\])]{0,4}[ \t]{0,8}(?:=>|[:=]{1,2}|%3[dD])[ \t]{0,8}")
_QUOTED = re.compile(r"""(\\*["'])(.*?)(?:(?<!\\)\1|\Z)""", re.DOTALL)
_WHOLE_LINE_NAME = re.compile(r"(?:cookies?|authorization)$", re.IGNORECASE)
_WHOLE_LINE = re.compile(r"[^\r\n]*+")
_BRACKET = re.compile(r"""["](?:[^"\\]++|\\.)*+["]?|['](?:[^'\\]++|\\.)*+[']?|([\[{(])|([\]})])""", re.DOTALL)
_BARE = re.compile(
    r"(?:(?:bearer|basic|digest|token|negotiate)[ \t]{1,8})?"
    r"(?:[^\s;&\"'<>,)\]}]++|[,)\]}](?![\s,;)\]}\"']|\Z|[\w.-]{1,40}=))*+",
    re.IGNORECASE,
)
_SEPARATOR_IN_QUERY = re.compile("([&;?#])")


class Redactor:
    """Takes secrets out by their names, and out of free text.

    ``names`` are sensitive like the built-in ones. ``rules`` maps a field (``ssn``), or a field of one
    resource type (``patient.ssn``, which goes first), to

    * ``replace``: the value becomes ``[redacted]``;
    * ``mask``: the last four characters stay, if there are at least twelve: ``••••1234``;
    * ``hash``: ``hmac-sha256:`` and the HMAC of its canonical bytes under ``hash_key``;
    * ``keep``: it stays, though its name is sensitive.

    Case and separators of names do not matter. A whole value is redacted, also where it is an object or an
    array; None stays None; what is redacted already stays as it is.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule] | None = None,
        hash_key: bytes | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._rules: dict[str, Rule] = {}
        self._scoped: dict[tuple[str, str], Rule] = {}
        self._hash_key = hash_key
        self._phrases = PHRASES.union(_flat(name) for name in names)
        for name, rule in (rules or {}).items():
            self._add(name, rule)
        self._cached_rule: Callable[[str, str | None], Rule | None] = lru_cache(4096)(self._find_rule)

    def _add(self, name: str, rule: Rule) -> None:
        if rule not in get_args(Rule):
            choices = ", ".join(get_args(Rule))
            raise ConfigurationError(f"redaction of {name!r} is {rule!r}: choose from {choices}")
        if rule == "hash" and not self._hash_key:
            raise ConfigurationError(f"redaction of {name!r} is 'hash': give the Redactor a hash_key")
        scope, _, field = name.rpartition(".")
        if scope:
            self._scoped[_flat(scope), _flat(field)] = rule
        else:
            self._rules[_flat(field)] = rule

    # --- What redacts

    def details(self, details: dict[str, Json], resource_type: str | None = None) -> dict[str, Json]:
        """Redact clean details at any depth, into a new structure.

        Under ``changes``, the old and the new value of a sensitive field are redacted each on its own: it
        stays visible that the field changed, and whether it was or became None.
        """
        return {name: self._member(name, value, resource_type) for name, value in details.items()}

    def query(self, text: str) -> str:
        """Redact a query string; order, separators and all that is not sensitive stay as they are.

        A URL inside a value is looked through as well. After ``;``, ``?`` or ``#`` what has no name belongs
        to the value before it.
        """
        return self._query(text, 2)

    def headers(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Redact headers; names become lower case, the values of one name are joined with ``", "``."""
        joined: dict[str, str] = {}
        for raw, value in headers:
            name = raw.lower()
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return {name: self._header(name, value) for name, value in joined.items()}

    def text(self, text: str) -> str:
        """Redact free text, such as an exception's, in time proportional to its length.

        Values after a sensitive name (``name=``, ``name:``, ``"name":``), private keys, Bearer and Basic
        credentials, JWTs, passwords in URLs, card numbers and US social security numbers.
        """
        text = self._assignments(_PEM.sub(REDACTED, text))
        text = _CREDENTIALS.sub(_redact_credential, text)
        text = _JWT.sub(REDACTED, text)
        text = _USERINFO.sub(rf"\1{REDACTED}@", text)
        text = _redact_cards(_GROUPED_CARDS, _SSN.sub(REDACTED, text))
        return _redact_cards(_OTHER_CARDS, text)

    def keyed_hash(self, value: Json) -> str:
        """``hmac-sha256:<hex>``, for what must stay comparable but unreadable: session ids, say."""
        if not self._hash_key:
            raise ConfigurationError("no hash_key: give the Redactor one")
        return _HASH_PREFIX + hmac.digest(self._hash_key, encode(clean(value)), "sha256").hex()

    # --- Rules

    def _rule(self, name: str, scope: str | None = None) -> Rule | None:
        """What happens to values of this name; None where they stay."""
        return self._cached_rule(name, scope) if len(name) < 128 else self._find_rule(name, scope)

    def _find_rule(self, name: str, scope: str | None) -> Rule | None:
        rule = self._scoped_rule(name, scope) or self._rules.get(_flat(name))
        if rule is None and (_flat(name) in self._phrases or _matches(name, self._phrases)):
            return "replace"
        return None if rule == "keep" else rule

    def _scoped_rule(self, name: str, scope: str | None) -> Rule | None:
        if not self._scoped:
            return None
        head, _, tail = name.rpartition(".")
        inside = self._scoped.get((_flat(head), _flat(tail)))
        return inside or self._scoped.get((_flat(scope or ""), _flat(name)))

    def _redact(self, rule: Rule, value: Json) -> Json:
        if value is None:
            return None
        if isinstance(value, str):
            return self._redact_text(rule, value)
        if rule == "hash":
            return self.keyed_hash(value)
        if rule == "replace":
            return REDACTED
        return MASK if isinstance(value, dict | list) else _mask(encode(value).decode())

    def _redact_text(self, rule: Rule, text: str) -> str:
        if rule == "mask":
            return _mask(text)
        if rule == "hash":
            return text if _HASHED.fullmatch(text) else self.keyed_hash(text)
        return REDACTED

    # --- Details

    def _value(self, value: Json, scope: str | None) -> Json:
        if isinstance(value, dict):
            return {name: self._member(name, item, scope) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, scope) for item in value]
        return value

    def _member(self, name: str, value: Json, scope: str | None) -> Json:
        if rule := self._rule(name, scope):
            return self._redact(rule, value)
        if name == "changes" and isinstance(value, dict):
            return {field: self._change(field, change, scope) for field, change in value.items()}
        return self._value(value, scope)

    def _change(self, field: str, change: Json, scope: str | None) -> Json:
        rule = self._rule(field, scope)
        if rule and isinstance(change, dict) and change.keys() <= {"old", "new"}:
            return {side: self._redact(rule, value) for side, value in change.items()}
        return self._member(field, change, scope)

    # --- Query strings and headers

    def _query(self, text: str, depth: int) -> str:
        parts = _SEPARATOR_IN_QUERY.split(text)
        rule: Rule | None = None
        for place in range(0, len(parts), 2):
            name, equals, value = parts[place].partition("=")
            if equals:
                rule = self._rule(unquote_plus(name))
                value = self._redact_text(rule, unquote_plus(value)) if rule else self._url(value, depth)
                parts[place] = f"{name}={value}"
            elif place and parts[place - 1] == "&":
                rule = None
            elif rule and name:
                parts[place] = REDACTED
        return "".join(parts)

    def _url(self, value: str, depth: int) -> str:
        """Redact a value that may be a URL with a query string of its own."""
        if not depth or "%3d" not in value.lower():
            return value
        plain = unquote_plus(value)
        redacted = self._query(plain, depth - 1)
        return value if redacted == plain else quote(redacted, safe="", errors="replace")

    def _header(self, name: str, value: str) -> str:
        if rule := self._rule(name):
            return self._redact_text(rule, value)
        return self.query(value) if name in _URL_HEADERS else value

    # --- Free text

    def _assignments(self, text: str) -> str:
        out: list[str] = []
        done = position = 0
        while match := _NAME.search(text, position):
            position = match.end()
            if rule := self._spoken_rule(match[1]):
                start, position = _secret_span(text, position, match[1])
                if start < position:
                    out += text[done:start], self._redact_text(rule, text[start:position])
                    done = position
        return "".join((*out, text[done:]))

    def _spoken_rule(self, name: str) -> Rule | None:
        """The rule of the last word, or of ``api key`` and the like."""
        words = name.split(" ")
        if rule := self._rule(words[-1]):
            return rule
        letters = ["".join(_WORD.findall(word.casefold())) for word in words]
        phrases = ("".join(letters[-count:]) for count in range(2, len(words) + 1))
        return "replace" if any(phrase in self._phrases for phrase in phrases) else None


def _mask(text: str) -> str:
    if _MASKED.fullmatch(text):
        return text
    return MASK + text[-4:] if len(text) >= 12 else MASK


def _secret_span(text: str, start: int, name: str) -> tuple[int, int]:
    """Where the value that begins here lies: in its quotes or brackets, or up to where a value must end."""
    if quoted := _QUOTED.match(text, start):
        return quoted.span(2)
    if _WHOLE_LINE_NAME.search(name):
        return _span(_WHOLE_LINE, text, start)
    if text.startswith(("[", "{", "("), start):
        end = _closing_bracket(text, start)
        return start, end if text.startswith((",", ")", "]", "}"), end) else _span(_BARE, text, end)[1]
    return _span(_BARE, text, start)


def _span(pattern: re.Pattern[str], text: str, start: int) -> tuple[int, int]:
    match = pattern.match(text, start)
    return match.span() if match else (start, start)


def _closing_bracket(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` is closed again; the end of the text if it is not."""
    level = 0
    for match in _BRACKET.finditer(text, start):
        level += bool(match[1]) - bool(match[2])
        if level == 0:
            return match.end()
    return len(text)


def _redact_credential(match: re.Match[str]) -> str:
    scheme, space, credential = match.groups()
    secret = _is_basic(credential) if scheme.lower() == "basic" else _is_random(credential)
    return f"{scheme}{space}{REDACTED}" if secret else match[0]


def _is_basic(credential: str) -> bool:
    """``user:password`` in base64, and not the next word of a sentence."""
    try:
        return b":" in base64.b64decode(credential + "==")
    except (binascii.Error, ValueError):
        return False


def _is_random(credential: str) -> bool:
    return len(credential) >= 20 or not credential.rstrip(".").isalpha()


def _redact_cards(cards: re.Pattern[str], text: str) -> str:
    out: list[str] = []
    done = 0
    for found in cards.finditer(text):
        start, end = found.span(1)
        if end > done and _passes_luhn(found[1]):
            out += text[done:start], REDACTED if start >= done else ""
            done = end
    return "".join((*out, text[done:]))


def _passes_luhn(number: str) -> bool:
    digits = number.replace(" ", "").replace("-", "")[::-1]
    total = sum(digits[::2].encode()) + sum(digits[1::2].translate(_DOUBLED).encode())
    return (total - len(digits) * ord("0")) % 10 == 0
