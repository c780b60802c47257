"""What never entered cannot leak."""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_core.canonical import Json, encode
from audit_core.errors import ConfigurationError
from audit_core.normalise import DETAILS_BUDGET, KEPT, fit
from audit_core.redaction import MASK, REDACTED, Redactor, sensitive_names
from audit_core.redaction.free_text import redact_credentials
from audit_core.redaction.long_text import LIMIT, redact_long_text
from audit_core.redaction.rules import Rules
from audit_core.redaction.sensitive_names import PHRASES, sensitivity

often = settings(max_examples=150, deadline=None)
KEY = b"0123456789abcdef"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SflKxwRJSMeKKF2QT4fwpM"


def is_sensitive(name):
    return sensitivity(name, PHRASES) == "secret"


SENSITIVE = """
    password passwords passwd pwd passphrase passcode secret secrets token tokens credential credentials
    authorization cookie cookies set-cookie api_key apiKey APIKey APIkey X-API-Key private_key secretKey
    access_key encryption_key signing_key session_key ssh_key master_key hmac_keys jwt bearer csrf otp totp
    mfa_code 2fa_code pin PIN user_pin cvv cvc cvv2 card_number cardNumber credit_card debitCard pan ssn
    social_security social_security_number iban account_number routing_number session_id sessionid SessionID
    connection_string dsn SENTRY_DSN apikey accesstoken authtoken creditcard cardnumber privatekey secretkey
    userpassword csrfmiddlewaretoken phpsessid PHPSESSID JSESSIONID refreshtoken clientsecret client_secret
    userPASSWORD password1 password_2 new-password old.password user[password] password_confirmation
    password_hash passwordHash PassWord DB_PASSWORD db_pass pass pw token_value aws_secret_access_key
    remember_token password_reset_token id_token X-Amz-Signature x-csrf-token proxy-authorization auth_token
    ｐａｓｓｗｏｒｄ pass\u200bword ssn_last4 private_keys
    auth AUTH x-auth http_auth sid connect.sid license_key licenceKey activation_key app_key client_key server_key
    subscription-key webhook_keys mysql_pwd _xsrf XSRF-TOKEN _csrf_token csrf_token user_session aiohttp_session symfony
    proxy-authorization x_api_key x_csrftoken basic_auth code_verifier client_assertion SAMLResponse magic_link
    sharedAccessKey account_key stripe_key pgp_key certificate_key consumer_key redis_url SQLALCHEMY_DATABASE_URI
    track2 track_2 track1 trackData track2Data cardTrack2 card_track_data magstripe
    reset_code reset_link oauth_verifier slack_webhook otpauth_url pswd old_pw newPw laravel_session
""".split()
INNOCENT = """
    token_count tokens_used max_tokens token_type tokenType tokenizer tokenization keyboard monkey key
    primary_key foreign_key public_key ssh_public_key sort_key key_id cache_key secretary secretariat author
    authorized is_secret has_password password_changed_at passwordExpiresAt password_expires passwordless
    password_policy cookie_consent cookie_name pinned pinterest spin panel company japan expand pancake
    card_type credit_card_type card_count session session_count pantry discard postcard wildcard compass
    passenger bypass passing email name id user_id username opinion shipping captain assigned signature
    maxTokens min_tokens idempotency_key
    secret_name secretName token_at authority authors auth_provider auth_method side sidebar inside president
    account_sid session_count license license_number code country_code signature two_factor appkeyboard keynote
    prompt_tokens completion_tokens iban_country reset_count redis_host
    track track_id track_name tracking_number soundtrack racetrack2 track10 backtrack track_count
    can_reset_password requires_token is_pin_set token_issuer password_history
""".split()


class TestNames:
    @pytest.mark.parametrize("name", SENSITIVE)
    def test_a_secret_is_known_by_its_name(self, name: str) -> None:
        assert is_sensitive(name)

    @pytest.mark.parametrize("name", INNOCENT)
    def test_an_innocent_neighbour_passes(self, name: str) -> None:
        assert not is_sensitive(name)

    @pytest.mark.parametrize("phrase", sorted(PHRASES))
    def test_every_phrase_is_found_whatever_its_dress(self, phrase: str) -> None:
        for dressed in (
            phrase,
            phrase.upper(),
            f"user_{phrase}",
            f"x-{phrase}-2",
            f"{phrase}_value",
            f"a.{phrase}",
        ):
            assert is_sensitive(dressed), dressed

    def test_no_word_is_both_a_secret_and_about_one(self) -> None:
        about = sensitive_names.ASKING | sensitive_names.MEASURING | sensitive_names.DESCRIBING
        assert not about & PHRASES

    @often
    @given(st.text())
    def test_any_text_is_a_name(self, name: str) -> None:
        assert Redactor().details({name: 1}) == {name: REDACTED if is_sensitive(name) else 1}
        is_sensitive(name * 100)

    @pytest.mark.parametrize("name", ["has_password", "is_secret", "max_tokens", "token_at", "password_changed_at"])
    def test_what_measures_a_secret_is_innocent_only_as_long_as_it_is_a_measure(self, name: str) -> None:
        innocent: list[Json] = [
            True, 0, 5, None, "", "true", "No", "12", "2026-05-01T10:00:00.000000Z", "2026-05-01 10:00:00+02:00",
            "2026-05-01", "24h", "30 days", "-1", "P30D",
        ]  # fmt: skip
        for value in innocent:
            assert Redactor().details({name: value}) == {name: value}
            assert Redactor().details({"changes": {name: {"old": value, "new": 1}}})["changes"]
        secret: list[Json] = [
            "hunter2", "2hunter", "Q", "correct horse", ["hunter2"], [["hunter2"]], [1, 2], {"input": 5},
            4111111111111111, "4111111111111111",
        ]  # fmt: skip
        for value in secret:
            for details in ({name: value}, {"changes": {name: {"old": value, "new": value}}}, {"a": [{name: value}]}):
                redacted = str(Redactor().details(details))
                assert REDACTED in redacted
                assert str(value) not in redacted
        redactor = Redactor()
        assert redactor.query(f"{name}=hunter2&{name}=5&{name}=true") == f"{name}=[redacted]&{name}=5&{name}=true"
        assert redactor.text(f"{name}=hunter2 {name}: 5") == f"{name}=[redacted] {name}: 5"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("password_history", 123456), ("has_pin", 1234), ("card_number_used", 4111111111111111),
            ("ssn_valid", "123456789"), ("ssn_used", "123-45-6789"), ("cvv_required", "123"), ("otp_sent", 994411),
            ("password_expires", "20261231"), ("account_number_used", "12345678901234"), ("pin_at", "12:34"),
            ("mfa_code_valid", 123456), ("token_used", "123-45-6789"), ("token_count", "078-05-1120"),
            ("password_age", 123456), ("password_age", "hunter2"), ("pin_length", 1234),
            ("password_changed_at", 123456),
        ],
    )  # fmt: skip
    def test_a_secret_of_digits_does_not_pass_for_a_measure(self, name: str, value: Json) -> None:
        assert Redactor().query(f"{name}={value}") == f"{name}={REDACTED}"
        assert Redactor().details({name: value}) == {name: REDACTED}
        assert Redactor().text(f"{name}={value}") == f"{name}={REDACTED}"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("password_age", 365), ("password_age", "365"), ("password_max_age", 90), ("password_age_days", 365),
            ("password_expiry_days", 180), ("session_id_count", 1204), ("pin_age", "365 days"), ("cvv_count", 3),
            ("password_changed_at", "2026-05-01T10:00:00.000000Z"), ("password_changed_at", 1700000000),
            ("passwordUpdatedAt", 1700000000000), ("token_count", 123456), ("password_lifetime", "P365D"),
        ],
    )  # fmt: skip
    def test_how_old_a_secret_is_and_how_many_there_are_stays(self, name: str, value: Json) -> None:
        assert Redactor().details({name: value}) == {name: value}
        assert Redactor().query(f"{name}={value}") == f"{name}={value}"
        assert Redactor().text(f"{name}={value}") == f"{name}={value}"

    @pytest.mark.parametrize("value", [0, 4096, 200_000, 1_700_000_000, 1_700_000_000_000, "31536000", "1.5"])
    @pytest.mark.parametrize("name", ["max_tokens", "token_expires", "cookie_age", "api_key_count", "session_key_age"])
    def test_what_never_consists_of_digits_may_be_measured_with_any(self, name: str, value: Json) -> None:
        assert Redactor().details({name: value}) == {name: value}

    @pytest.mark.parametrize(
        ("name", "value"), [("token_type", "bearer"), ("secret_name", "prod/db"), ("card_type", "x")]
    )
    def test_what_describes_a_secret_may_be_any_text(self, name: str, value: str) -> None:
        assert Redactor().details({name: value}) == {name: value}

    def test_a_rule_decides_about_measures_too(self) -> None:
        redactor = Redactor({"has_password": "keep", "token_count": "replace"})
        assert redactor.details({"has_password": "x", "token_count": 5}) == {
            "has_password": "x",
            "token_count": REDACTED,
        }

    def test_a_long_name_is_judged_like_a_short_one(self) -> None:
        assert is_sensitive("x_" * 100_000 + "password")
        assert not is_sensitive("x_" * 100_000)


# --- Rules


class TestRules:
    def test_replace_is_the_default(self) -> None:
        assert Redactor().details({"password": "hunter2", "name": "Ann"}) == {
            "password": REDACTED,
            "name": "Ann",
        }

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("4111111111111234", "••••1234"),
            ("123456789012", "••••9012"),
            ("12345678901", MASK),
            ("", MASK),
            (1234567890123, "••••0123"),
            (True, MASK),
            (["a" * 20], MASK),
            ({"a": "b" * 20}, MASK),
            (None, None),
            ("••••1234", "••••1234"),
        ],
    )
    def test_mask_keeps_the_last_four_of_at_least_twelve(self, value: Json, expected: Json) -> None:
        assert Redactor({"phone": "mask"}).details({"phone": value}) == {"phone": expected}

    @pytest.mark.parametrize("value", ["Ann", 5, ["a", 1], {"a": None}, True, ""])
    def test_hash_is_an_hmac_of_the_canonical_bytes(self, value: Json) -> None:
        expected = "hmac-sha256:" + hmac.new(KEY, encode(value), sha256).hexdigest()
        redactor = Redactor({"email": "hash"}, KEY)
        assert redactor.details({"email": value}) == {"email": expected}
        assert redactor.keyed_hash(value) == expected
        assert redactor.details({"email": expected}) == {"email": expected}

    def test_another_key_gives_another_hash(self) -> None:
        assert Redactor(hash_key=b"a").keyed_hash("x") != Redactor(hash_key=b"b").keyed_hash("x")

    def test_keep_switches_a_default_off(self) -> None:
        redactor = Redactor({"session_id": "keep"})
        assert redactor.details({"sessionId": "x", "token": "y"}) == {"sessionId": "x", "token": REDACTED}

    def test_what_is_kept_is_still_looked_through(self) -> None:
        redactor = Redactor({"credentials": "keep"})
        assert redactor.details({"credentials": {"password": 1}}) == {"credentials": {"password": REDACTED}}

    @pytest.mark.parametrize("name", ["homePhone2", "home_phone_2", "HOME-PHONE-2", "home.phone2"])
    def test_a_rule_does_not_care_about_case_and_separators(self, name: str) -> None:
        assert Redactor({"home_phone2": "replace"}).details({name: 1, "homePhone3": 1}) == {
            name: REDACTED,
            "homePhone3": 1,
        }

    def test_a_rule_of_a_resource_goes_before_the_rule_of_the_field(self) -> None:
        redactor = Redactor({"Patient.note": "replace", "note": "mask", "patient.ssn": "keep"})
        details: dict[str, Json] = {"note": "a", "ssn": "b"}
        assert redactor.details(details, "patient") == {"note": REDACTED, "ssn": "b"}
        assert redactor.details(details, "invoice") == {"note": MASK, "ssn": REDACTED}
        assert redactor.details(details) == {"note": MASK, "ssn": REDACTED}

    def test_a_dotted_name_names_its_resource(self) -> None:
        redactor = Redactor({"patient.note": "replace"})
        assert redactor.details({"patient.note": 1, "invoice.note": 1}) == {
            "patient.note": REDACTED,
            "invoice.note": 1,
        }

    def test_a_resource_may_have_dots_itself(self) -> None:
        assert Redactor({"clinic.Patient.note": "replace"}).details({"note": 1}, "clinic.patient") == {"note": REDACTED}

    def test_more_names_work_like_the_built_in_ones(self) -> None:
        redactor = Redactor(names=["mrn", "line1", "home address"])
        redacted = redactor.details({"patientMrn": 1, "mrn_count": 1, "line1": 1, "line2": 1, "homeAddress": 1})
        assert redacted == {
            "patientMrn": REDACTED,
            "mrn_count": 1,
            "line1": REDACTED,
            "line2": 1,
            "homeAddress": REDACTED,
        }

    def test_an_unknown_rule_is_a_configuration_error(self) -> None:
        rules: Any = {"x": "destroy"}
        with pytest.raises(ConfigurationError, match="choose from replace, mask, hash, keep"):
            Redactor(rules)

    @pytest.mark.parametrize("key", [None, b""])
    def test_a_hash_without_a_key_is_a_configuration_error(self, key: bytes | None) -> None:
        with pytest.raises(ConfigurationError, match="hash_key"):
            Redactor({"x": "hash"}, key)
        with pytest.raises(ConfigurationError, match="hash_key"):
            Redactor(hash_key=key).keyed_hash("x")

    def test_a_hash_of_hostile_text_is_no_error(self) -> None:
        assert Redactor(hash_key=KEY).keyed_hash("\ud800\0").startswith("hmac-sha256:")


# --- Details


class TestDetails:
    def test_secrets_are_found_at_any_depth(self) -> None:
        details: dict[str, Json] = {"a": [{"b": [[{"token": "x", "c": 1}]]}]}
        assert Redactor().details(details) == {"a": [{"b": [[{"token": REDACTED, "c": 1}]]}]}
        assert details == {"a": [{"b": [[{"token": "x", "c": 1}]]}]}

    @pytest.mark.parametrize("value", ["x", 0, False, "", [], ["a"], {}, {"innocent": 1}])
    def test_a_whole_value_is_replaced(self, value: Json) -> None:
        assert Redactor().details({"password": value}) == {"password": REDACTED}

    def test_none_stays_none(self) -> None:
        assert Redactor().details({"password": None}) == {"password": None}

    def test_changes_show_that_a_secret_changed(self) -> None:
        changes: dict[str, Json] = {
            "password": {"old": None, "new": "x"},
            "token": {"old": "x", "new": None},
            "pin": {"old": "1", "new": "2"},
            "name": {"old": "a", "new": {"secret": "b"}},
            "credentials": {"added": ["x"]},
            "cookie": "x",
        }
        assert Redactor().details({"changes": changes}) == {
            "changes": {
                "password": {"old": None, "new": REDACTED},
                "token": {"old": REDACTED, "new": None},
                "pin": {"old": REDACTED, "new": REDACTED},
                "name": {"old": "a", "new": {"secret": REDACTED}},
                "credentials": REDACTED,
                "cookie": REDACTED,
            }
        }

    def test_changes_are_known_in_lists_and_by_rules_of_the_resource(self) -> None:
        redactor = Redactor({"patient.note": "mask"})
        details: dict[str, Json] = {"objects": [{"changes": {"note": {"old": "a", "new": None}}}]}
        assert redactor.details(details, "patient") == {"objects": [{"changes": {"note": {"old": MASK, "new": None}}}]}

    def test_old_and_new_outside_of_changes_are_one_value(self) -> None:
        assert Redactor().details({"password": {"old": "a", "new": "b"}}) == {"password": REDACTED}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("key: -----BEGIN PRIVATE KEY-----\nabc", "key: [redacted]"),
            (f"got {JWT}", "got [redacted]"),
            ("Bearer abcdefghijklmnopqrstuvwx", "Bearer [redacted]"),
            ("postgresql://ada:pw@db/clinic", "postgresql://ada:[redacted]@db/clinic"),
            ("paid with 4111 1111 1111 1111, thanks", "paid with [redacted], thanks"),
            ("4111-1111-1111-1111", REDACTED),
            ("4111111111111111", REDACTED),
            (4111111111111111, REDACTED),
            ("078-05-1120", REDACTED),
            ("SSN 078-05-1120, as he says", "SSN [redacted], as he says"),
            ("%B4111111111111111^DOE/ADA^25121010000000000?", "%B[redacted]"),
            (";4111111111111111=25121010000000000?", ";[redacted]"),
            ("%B4222222222222^DOE/ADA^2512101?", "%B[redacted]"),
            ("it is 378282246310005.", "it is [redacted]."),
            *((f"a {token}", "a [redacted]") for token in [
                "sk_" + "live_abcdefghijklmnopqrstuvwx", "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
                "AKIA" + "IOSFODNN7EXAMPLE", "xoxb-" + "123456789-abcdef",
            ]),
        ],
    )  # fmt: skip
    def test_what_is_unmistakably_a_secret_is_found_in_any_value(self, value: Json, expected: str) -> None:
        assert Redactor().details({"note": value}) == {"note": expected}
        assert Redactor().details({"changes": {"note": {"old": None, "new": [value]}}}) == {
            "changes": {"note": {"old": None, "new": [expected]}}
        }
        assert Redactor().details({"note": expected}) == {"note": expected}

    @pytest.mark.parametrize(
        "value",
        [
            "4111111111111112", 4111111111111112, "/patients/4111111111111111", "https://db:8080/a", "bearer of news",
            "a4111111111111111", "490154203237518", "41111111-1111-1111-1111-111111111111", 1700000000000000,
            "2026-05-01T10:00:00.000000Z", "+49 1234 5678 9012", "skill", "password=hunter2", "4006381333931",
            "hmac-sha256:" + "4111111111111111" * 4, "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567",
            "123-45-0000", "1123-45-6789", "123-45-67890", "A123-45-6789", "2026-05-01", "4111111111111112=2512101",
        ],
    )  # fmt: skip
    def test_what_only_resembles_a_secret_stays(self, value: Json) -> None:
        assert Redactor().details({"note": value}) == {"note": value}


# --- Texts that are cut in any case

PAIRS = [  # what may be guessed or read must not be told apart by what stays
    ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "abc", "xyz"),
    (f"got {JWT}", "SflKxwRJ", "AflKxwRJ"),
    ("bEaReR\tabcdefghijklmnopqrstuvwx", "abcdef", "uvwxyz"),
    ("postgresql://ada:pw1@db/clinic", "pw1", "pw2"),
    ("4111 1111 1111 1111, thanks", "4111 1111 1111 1111", "4012 8888 8888 1881"),
    ("card 4111-1111-1111-1111", "4111-1111-1111-1111", "4012-8888-8888-1881"),
    ("378282246310005 it is", "378282246310005", "371449635398431"),
    ("SSN 078-05-1120, as he says", "078-05-1120", "078-05-1121"),
    (";4111111111111111=25121010000000000?", "25121010000000000", "25121010000000001"),
    ("%B4222222222222^DOE/ADA^2512101?", "4222222222222", "4000000000006"),
    *((f"a {token} b", token[-6:], "uvwxyz" if token.islower() else "UVWXYZ") for token in [
        "sk_" + "live_abcdefghijklmnop", "ghp_" + "abcdefghijklmnopqrstuvwx", "AKIA" + "IOSFODNN7ABCDEFG",
        "xoxb-" + "aaaaaaaaaa-abcdef", "glpat-" + "abcdefghijklmnopqrstuvwx",
        "AIza" + "abcdefghijklmnopqrstuvwxyzabcdefghi",
    ]),
]  # fmt: skip


WORDS = "wörd " * (LIMIT // 5 + 100)


class TestLongTexts:
    @pytest.mark.parametrize(("text", "one", "other"), PAIRS, ids=lambda value: value[:12])
    @pytest.mark.parametrize("place", [0, KEPT - 20, KEPT - 4, LIMIT - 20, LIMIT - 5, LIMIT + 300])
    def test_nothing_that_stays_depends_on_a_secret_wherever_it_stands(self, place, text, one, other) -> None:
        def told(secret: str) -> dict[str, Json]:
            before = WORDS[: max(place - 1, 0)] + "\n" * (place > 0)
            note = f"{before}{text.replace(one, secret)} {WORDS[: LIMIT + 1 - place]}"
            return fit(Redactor().details({"note": note}), DETAILS_BUDGET)

        assert one in text
        assert told(one) == told(other)
        assert one not in str(told(one))

    def test_what_is_cut_says_how_long_it_was(self) -> None:
        note = "4111111111111111 " + "é" * LIMIT
        kept = "[redacted] " + "é" * (LIMIT - 17 - 256) + REDACTED
        expected = f"{kept[:256]}…[cut: {len(note.encode())} bytes, sha256:{sha256(kept.encode()).hexdigest()}]"
        assert Redactor().details({"note": note}) == {"note": expected}
        assert Redactor().details({"note": expected}) == {"note": expected}

    @pytest.mark.parametrize(
        "harmless", ["right, though xylophones", "https://a.example/?t=1:2", "eyJ.x", "bearer-bond"]
    )
    def test_a_text_without_a_secret_keeps_the_hash_of_all_of_it(self, harmless: str) -> None:
        note = f"{harmless} " * LIMIT
        digest = sha256(note.encode()).hexdigest()
        assert str(fit(Redactor().details({"note": note}), DETAILS_BUDGET)["note"]).endswith(f"sha256:{digest}]")

    def test_only_the_beginning_is_looked_through(self) -> None:
        """To look through all of it would hold up the transaction that changes it, for as long as the text is."""
        seen: list[str] = []

        def redact(text: str) -> str:
            seen.append(text)
            return text

        redact_long_text("https://ada:pw@a.example/ 4111111111111111 " * LIMIT, redact)
        assert list(map(len, seen)) == [LIMIT]


# --- The id of a resource


class TestIdentifier:
    @pytest.mark.parametrize(
        ("kind", "identifier", "fields"),
        [
            ("api_token", "s3cr3t", ()),
            ("Token", "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", ("key",)),
            ("password_reset", "hunter2", ("id",)),
            ("grant", "s3cr3t", ("code",)),
            ("login", "5", ("session_key",)),
            ("invite", "north,s3cr3t", ("tenant_id", "token")),
            ("voucher", "s3cr3t", ("mrn",)),
        ],
    )
    def test_an_id_that_is_a_secret_is_a_keyed_hash_and_twice_is_once(
        self, kind: str, identifier: str, fields: tuple[str, ...]
    ) -> None:
        redactor = Redactor({"mrn": "replace"}, KEY)
        hidden = redactor.identifier(identifier, kind, fields)
        assert hidden == redactor.keyed_hash(identifier)
        assert redactor.identifier(hidden, kind) == hidden
        assert Redactor({"mrn": "replace"}).identifier(identifier, kind, fields) == REDACTED

    @pytest.mark.parametrize(
        ("kind", "identifier", "fields"),
        [
            ("api_token", "42", ("id",)),
            ("token", "550e8400-e29b-41d4-a716-446655440000", ("id",)),
            ("patient", "ada", ("name",)),
            ("room", "7", ("number",)),
            ("setting", "theme", ("key",)),
            ("token_type", "bearer", ()),
            (None, "s3cr3t", ()),
            ("voucher", "s3cr3t", ("token",)),
            ("cookie", "theme", ()),
        ],
    )
    def test_any_other_id_stays(self, kind: str | None, identifier: str, fields: tuple[str, ...]) -> None:
        redactor = Redactor({"voucher.token": "keep", "cookie": "keep"}, KEY)
        assert redactor.identifier(identifier, kind, fields) == identifier

    @pytest.mark.parametrize("kind", ["password_reset", "AccessToken", "oauth_grant"])
    def test_what_a_table_of_secrets_calls_them_is_redacted_in_its_changes(self, kind: str) -> None:
        changes: dict[str, Json] = {
            name: {"old": None, "new": "x"} for name in ("key", "code", "value", "digest", "name", "uses")
        }
        redacted = Redactor().details({"changes": changes}, kind)["changes"]
        assert [name for name in changes if redacted[name]["new"] == REDACTED] == ["key", "code", "value", "digest"]
        assert Redactor().details({"changes": changes}, "country") == {"changes": changes}


# --- Query strings


class TestQuery:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ""),
            ("a=1&password=x&b=2", "a=1&password=[redacted]&b=2"),
            ("a=1;password=x;b=2", "a=1;password=[redacted];b=2"),
            ("token=1&token=2&&", "token=[redacted]&token=[redacted]&&"),
            ("pass%77ord=x", "pass%77ord=[redacted]"),
            ("user%5Bpassword%5D=x", "user%5Bpassword%5D=[redacted]"),
            ("api+key=x", "api+key=[redacted]"),
            ("password=a=b&c=d", "password=[redacted]&c=d"),
            ("password=a;b&c=d", "password=[redacted];[redacted]&c=d"),
            ("password&a", "password&a"),
            ("password=", "password=[redacted]"),
            ("%=%&%zz=%ff&%ff%fe=1", "%=%&%zz=%ff&%ff%fe=1"),
            ("?sig=a#access_token=b", "?sig=[redacted]#access_token=[redacted]"),
            ("next=/r?token=x&a=1", "next=/r?token=[redacted]&a=1"),
            ("next=%2Fr%3Ftoken%3Dx", "next=%2Fr%3Ftoken%3D%5Bredacted%5D"),
            ("next=%2Fr%3Fpage%3D2", "next=%2Fr%3Fpage%3D2"),
            ("max_tokens=5&token_type=b", "max_tokens=5&token_type=b"),
            ("has_password=true;x=1;y", "has_password=true;x=1;y"),
            ("password=a;;b", "password=[redacted];;[redacted]"),
            ("ticket=ST-1-x&key=AIzaSy&sort_key=a", "ticket=[redacted]&key=[redacted]&sort_key=a"),
            ("code=abc&country_code=de&codes=1", "code=[redacted]&country_code=de&codes=1"),
            ("Signature=abc&session=b&assertion=c", "Signature=[redacted]&session=[redacted]&assertion=[redacted]"),
            ("q=Bearer+abc123.def-456", "q=Bearer%20%5Bredacted%5D"),
            (f"hint={JWT}&a=1", "hint=[redacted]&a=1"),
            (JWT, "[redacted]"),
            ("back=https://bob:pw@x/y", "back=https://bob:[redacted]@x/y"),
            ("back=https%3A%2F%2Fbob%3Apw%40x%2Fy", "back=https%3A%2F%2Fbob%3A%5Bredacted%5D%40x%2Fy"),
            (
                "filter=%7B%22password%22%3A%22hunter2%22%2C%22a%22%3A1%7D",
                "filter=%7B%22password%22%3A%22%5Bredacted%5D%22%2C%22a%22%3A1%7D",
            ),
            ('filter={"password":"x","a":1}', 'filter={"password":"[redacted]","a":1}'),
            ('{"password":"x"}', '{"password":"[redacted]"}'),
            ("%7B%22password%22%3A%22x%22%7D", "%7B%22password%22%3A%22%5Bredacted%5D%22%7D"),
            ("next=%2Fr%3Fcode%3Dx%26a%3D1", "next=%2Fr%3Fcode%3D%5Bredacted%5D%26a%3D1"),
            ("q=card+4111+1111+1111+1111", "q=card%20%5Bredacted%5D"),
            ("q=Ann+B%C3%A9atrice&page=2", "q=Ann+B%C3%A9atrice&page=2"),
            ("%2574oken=x&p%252561ssword=y&%25=z", "%2574oken=[redacted]&p%252561ssword=[redacted]&%25=z"),
            ("token[]=a&token%5B0%5D=b", "token[]=[redacted]&token%5B0%5D=[redacted]"),
            ("body=token[]%3Dx", "body=token%5B%5D%3D%5Bredacted%5D"),
            ("next=/reset/x/&a=/patients/7", "next=/reset/[redacted]/&a=/patients/7"),
            (
                "next=https%3A%2F%2Freset.example%2Ftoken%2Fx",
                "next=https%3A%2F%2Freset.example%2Ftoken%2F%5Bredacted%5D",
            ),
            ("accept=text/html&day=1/2/2026", "accept=text/html&day=1/2/2026"),
            (
                "saml=<wsse:Password Type='a'>x</wsse:Password>",
                "saml=<wsse:Password Type='a'>[redacted]</wsse:Password>",
            ),
        ],
    )
    def test_values_of_sensitive_names_are_replaced_and_all_else_stays(self, text: str, expected: str) -> None:
        assert Redactor().query(text) == expected
        assert Redactor().query(expected) == expected

    @pytest.mark.parametrize("layers", [1, 2, 3])
    @pytest.mark.parametrize("secret", ['{"password":"hunter2"}', "/r?token=hunter2", "https://bob:hunter2@x"])
    def test_what_is_encoded_several_times_is_looked_through(self, secret: str, layers: int) -> None:
        for _ in range(layers):
            secret = quote(secret, safe="")
        redacted = Redactor().query(f"a=1&x={secret}")
        assert "hunter2" not in redacted
        assert Redactor().query(redacted) == redacted

    def test_what_is_kept_by_rule_is_kept_in_urls(self) -> None:
        assert Redactor({"code": "keep"}).query("code=DE") == "code=DE"

    def test_rules_hold_for_the_decoded_value(self) -> None:
        redactor = Redactor({"email": "hash", "phone": "mask"}, KEY)
        redacted = redactor.query("email=a%40b.org&phone=%2B491234567890")
        assert redacted == f"email={redactor.keyed_hash('a@b.org')}&phone=••••7890"

    @often
    @given(st.text(st.sampled_from("ab=&;%?#+=3Dd \ud800é\0") | st.characters(exclude_categories=())))
    def test_it_never_raises_and_twice_is_once(self, text: str) -> None:
        redactor = Redactor()
        for query in (text, f"token={text}", f"next=x%3Ftoken%3D{text}"):
            assert redactor.query(redactor.query(query)) == redactor.query(query)


# --- Paths


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "template", "expected"),
        [
            ("/reset/hunter2", "/reset/{token}", "/reset/[redacted]"),
            ("/reset/hunter2/", "/reset/{token}/", "/reset/[redacted]/"),
            ("/reset/MQ/hunter2/done", "/reset/{uid}/{token}/done", "/reset/MQ/[redacted]/done"),
            ("/x/a-hunter2", "/x/{name}-{secret}", "/x/a-[redacted]"),
            ("/x/hunter2/y/hunter2", "/x/{name}/y/{token}", "/x/hunter2/y/[redacted]"),
            ("/patients/42/notes", "/patients/{patient_id}/notes", "/patients/42/notes"),
            ("/patients/4111111111111111", "/patients/{patient_id}", "/patients/4111111111111111"),
            (f"/verify/{JWT}", "/verify/{value}", "/verify/[redacted]"),
            ("/tokens/5", "/tokens/{token_count}", "/tokens/5"),
            ("/files/a/b.txt", "/files/{path}", "/files/a/b.txt"),
            ("/mounted/reset/hunter2", "/mounted/{path}", "/mounted/reset/[redacted]"),
            ("/tokens/7", "/tokens/{token_id}", "/tokens/7"),
            ("/tokens/hunter2", "/tokens/{token_id}", "/tokens/[redacted]"),
            ("/tokens/hunter2", "/tokens/{key}", "/tokens/[redacted]"),
            ("/api-keys/hunter2/rotate", "/api-keys/{value}/rotate", "/api-keys/[redacted]/rotate"),
            ("/users/ada/tokens/hunter2", "/users/{user}/tokens/{key}", "/users/ada/tokens/[redacted]"),
            ("/reset/MQ/hunter2", "/reset/{uid}/{key}", "/reset/MQ/[redacted]"),
            ("/invite/hunter2", "/invite/{code}", "/invite/[redacted]"),
            ("/settings/theme", "/settings/{key}", "/settings/theme"),
            ("/countries/de", "/countries/{code}", "/countries/de"),
            ("/rooms/7", "/rooms/{number}", "/rooms/7"),
            ("/sessions/x", "/sessions/{session_id}", "/sessions/[redacted]"),
            ("/sessions/x", "/sessions/{userSessionId}", "/sessions/[redacted]"),
            ("/tokens/x", "/tokens/{token_count}", "/tokens/[redacted]"),
        ],
    )
    def test_the_values_of_sensitive_parameters_are_taken_out(self, path: str, template: str, expected: str) -> None:
        assert Redactor().routed_path(path, template, {}) == expected
        assert Redactor().routed_path(expected, template, {}) == expected

    def test_where_the_values_cannot_be_told_apart_the_template_stands_for_the_path(self) -> None:
        assert Redactor().routed_path("/files/a/hunter2/b", "/files/{token}", {}) == "/files/{token}"

    def test_a_parameter_of_the_place_where_an_application_is_mounted_is_taken_out(self) -> None:
        parameters = {"token": "hunter2", "item": 7}
        redacted = Redactor().routed_path("/items/7", "/items/{item}", parameters, "/by/hunter2")
        assert redacted == "/by/[redacted]/items/7"

    def test_rules_of_a_resource_hold_in_its_path(self) -> None:
        redactor = Redactor({"patient.mrn": "replace", "token": "keep"})
        assert redactor.routed_path("/patients/7", "/patients/{mrn}", {}, "", "patient") == "/patients/[redacted]"
        assert redactor.routed_path("/tokens/ada", "/tokens/{id}", {}, "", "token") == "/tokens/ada"

    def test_what_a_route_to_a_secret_calls_it_does_not_name_its_resource(self) -> None:
        parameters = {"user": "ada", "key": "hunter2"}
        redacted = Redactor().parameters(parameters, "key", "/reset/{user}/{key}")
        assert redacted == {"user": "ada", "key": REDACTED}
        assert Redactor().parameters(parameters, "setting", "/settings/{user}/{key}") == parameters

    def test_a_parameter_of_several_segments_names_no_resource_with_a_secret_in_it(self) -> None:
        for value, expected in (
            ("reset/hunter2", "reset/[redacted]"),
            ("a/9b2e4f1c7a6d8e3b5c0f2a1d4e6b8c7f", "a/[redacted]"),
            ("reports/2026/may.pdf", "reports/2026/may.pdf"),
        ):
            told = Redactor().parameters({"path": value}, "file", "/files/{path}")["path"]
            assert Redactor().routed_path(f"/files/{value}", "/files/{path}", {}) == f"/files/{told}"
            assert told == expected

    def test_parameters_follow_the_rules_of_their_resource(self) -> None:
        redactor = Redactor({"patient.mrn": "mask"})
        parameters = {"mrn": "123456789012", "token": "x", "id": 7, "value": JWT}
        assert redactor.parameters(parameters, "patient") == {
            "mrn": "••••9012", "token": REDACTED, "id": 7, "value": REDACTED,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "secret",
        [
            JWT,
            "dGhpc0lzQTMyQnl0ZVRva2VuMTIzNDU2Nzg5MA",
            "Zk3-v0_qT8sW2xYb5RfL1mNcHd7",
            "9b2e4f1c7a6d8e3b5c0f2a1d4e6b8c7f",
            "cx2k1p-9b2e4f1c7a6d8e3b5c0f2a1d4e6b8c7f",
            "token=hunter2",
        ],
    )
    def test_what_only_a_machine_can_have_made_does_not_stay_in_an_unrouted_path(self, secret: str) -> None:
        redacted = Redactor().path(f"/no/such/{secret}/path")
        assert redacted.startswith("/no/such/")
        assert secret not in redacted
        assert REDACTED in redacted

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/reset/hunter2/", "/reset/[redacted]/"),
            ("/accounts/reset-password/MQ/hunter2", "/accounts/reset-password/[redacted]/[redacted]"),
            ("/verifyEmail/123456", "/verifyEmail/[redacted]"),
            ("/api/token/hunter2", "/api/token/[redacted]"),
            ("//reset/hunter2", "//reset/[redacted]"),
            ("/reset%2Fhunter2", "/reset/[redacted]"),
            ("/re%2573et%252Fhunter2", "/reset/[redacted]"),
            ("\\reset\\hunter2", "\\reset\\[redacted]"),
            ("http://reset.example/reset/hunter2", "http://reset.example/reset/[redacted]"),
            ("/100%25/caf%C3%A9", "/100%25/caf%C3%A9"),
        ],
    )
    def test_what_follows_a_word_that_leads_to_a_secret_does_not_stay_in_an_unrouted_path(
        self, path: str, expected: str
    ) -> None:
        assert Redactor().path(path) == expected
        assert Redactor().path(expected) == expected

    @pytest.mark.parametrize(
        "path",
        [
            "/", "//", "", "/patients/42", "/magic-the-gathering/cards/7",
            "/patients/550e8400-e29b-41d4-a716-446655440000/notes",
            "/Annual-Report-2024-final-version-for-print", "/wp-content/plugins/wordpress-seo-premium-2024/readme.txt",
            "/the-very-long-title-of-a-page-in-a-blog-of-2024", "/MyVeryLongControllerName/Index2",
            "/Стра́ница/2024", "/12345678901234567890123456789012345",
        ],
    )  # fmt: skip
    def test_words_of_people_stay_in_an_unrouted_path(self, path: str) -> None:
        assert Redactor().path(path) == path


# --- Free text

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc==\n-----END RSA PRIVATE KEY-----"
TEXTS = [
    ("password=hunter2 user=bob", "password=[redacted] user=bob"),
    ("password: hunter2, user: bob", "password: [redacted], user: bob"),
    ("{'password': 'hunter 2', 'user': 'bob'}", "{'password': '[redacted]', 'user': 'bob'}"),
    ('{"password": "a\\"b", "x": 1}', '{"password": "[redacted]", "x": 1}'),
    ('{\\"password\\": \\"a b\\", \\"x\\": 1}', '{\\"password\\": \\"[redacted]\\", \\"x\\": 1}'),
    ('"password":"x","user":"bob"', '"password":"[redacted]","user":"bob"'),
    ("password='no end", "password='[redacted]"),
    ("f(user='bob', password='x')", "f(user='bob', password='[redacted]')"),
    ("f(password=x)", "f(password=[redacted])"),
    ("f(password=x, user=bob)", "f(password=[redacted], user=bob)"),
    ("password=a,b(c]d user", "password=[redacted] user"),
    ("tokens: ['a', ['b]'], \"c\"], user", "tokens: [redacted], user"),
    ("credentials={'user': 'x', 'more': {'y': 1}} rest", "credentials=[redacted] rest"),
    ("password=[a]b c", "password=[redacted] c"),
    ("Server=x;Password=p,w;Database=db", "Server=x;Password=[redacted];Database=db"),
    ("GET /x?a=1&access_token=abc&b=2", "GET /x?a=1&access_token=[redacted]&b=2"),
    ("url=https://x/?password=abc", "url=https://x/?password=[redacted]"),
    ("API key: sk-123", "API key: [redacted]"),
    ("the secret access key = abc/+ def", "the secret access key = [redacted] def"),
    ("password => x", "password => [redacted]"),
    ("password := x", "password := [redacted]"),
    ("user[password]=x", "user[password]=[redacted]"),
    ("token[]=x&users[0][password][1]: y", "token[]=[redacted]&users[0][password][1]: [redacted]"),
    ('"tokens[]":"x","a[]":"b"', '"tokens[]":"[redacted]","a[]":"b"'),
    ("token%5B%5D%253Dx", "token%5B%5D%253D[redacted]"),
    ("password\\u003dx", "password\\u003d[redacted]"),
    ("<user>bob</user><password>a b</password>", "<user>bob</user><password>[redacted]</password>"),
    ("<password><![CDATA[a<b]]></password><a/>", "<password>[redacted]</password><a/>"),
    ("<w:Password><b>a</b></w:Password><a>b</a>", "<w:Password>[redacted]</w:Password><a>b</a>"),
    ("<password/><b>x</b>", "<password/><b>x</b>"),
    ("--password=x --user=bob", "--password=[redacted] --user=bob"),
    ("password%3Dx", "password%3D[redacted]"),
    ("max_tokens=5 token_type: bearer", "max_tokens=5 token_type: bearer"),
    ("password=", "password="),
    ("Authorization: Basic dXNlcjpwYXNz\r\nHost: x", "Authorization: [redacted]\r\nHost: x"),
    ("Cookie: a=b; c=d\nHost: x", "Cookie: [redacted]\nHost: x"),
    ("token: Bearer abc def", "token: [redacted] def"),
    ("sent Bearer abc123.def-456 to x", "sent Bearer [redacted] to x"),
    ("sent basic dXNlcjpwYXNz to x", "sent basic [redacted] to x"),
    ("Basic authentication failed", "Basic authentication failed"),
    ("Bearer authentication failed.", "Bearer authentication failed."),
    (f"got {JWT}!", "got [redacted]!"),
    (f"got {JWT}.a.b!", "got [redacted]!"),
    ("postgresql://bob:p@ss:w@db/clinic", "postgresql://bob:[redacted]@db/clinic"),
    ("redis://:secret@cache:6379/0", "redis://:[redacted]@cache:6379/0"),
    ("https://host:8080/a@b", "https://host:8080/a@b"),
    (f"before {PEM} after", "before [redacted] after"),
    (PEM.replace("\n", "\\n") + "x", "[redacted]x"),
    (PEM[:50], "[redacted]"),
    ("card 4111 1111 1111 1111!", "card [redacted]!"),
    ("card 4111-1111-1111-1111 123", "card [redacted] 123"),
    ("12 4111 1111 1111 1111 1225", "12 [redacted] 1225"),
    ("1234 4111 1111 1111 1111", "1234 [redacted]"),
    ("4111111111111111,378282246310005", "[redacted],[redacted]"),
    ("3782 822463 10005 and 3056 930902 5904", "[redacted] and [redacted]"),
    ("4222222222222 and 41 1111 111111 1111", "[redacted] and [redacted]"),
    ("4111111111111112", "4111111111111112"),
    ("1700000000000 00000000000000", "1700000000000 00000000000000"),
    ("54111111111111111112345", "54111111111111111112345"),
    ("track %B4111111111111111^DOE/ADA^2512101?", "track %B[redacted]"),
    ("read ;4111111111111111=25121010000000000? twice", "read ;[redacted] twice"),
    ("1234567890123=2024010", "1234567890123=2024010"),
    ("password_age=365 password_changed_at=2026-05-01", "password_age=365 password_changed_at=2026-05-01"),
    ("ssn 123-45-6789.", "ssn [redacted]."),
    ("phone 123-45-67890 and 2-123-45-6789", "phone 123-45-67890 and 2-123-45-6789"),
]


class TestText:
    @pytest.mark.parametrize(("text", "expected"), TEXTS)
    def test_secrets_are_taken_out_of_free_text(self, text: str, expected: str) -> None:
        assert Redactor().text(text) == expected

    @pytest.mark.parametrize(("text", "expected"), TEXTS)
    def test_twice_is_once(self, text: str, expected: str) -> None:
        assert Redactor().text(expected) == expected

    def test_every_phrase_is_found_in_every_notation(self) -> None:
        for phrase in PHRASES:
            for text in (
                f"{phrase}=s3cr3t",
                f"{phrase}: s3cr3t",
                f'{{"{phrase}": "s3cr3t"}}',
                f"my-{phrase} = s3cr3t",
            ):
                assert "s3cr3t" not in Redactor().text(text), text

    def test_rules_and_more_names_hold_in_free_text(self) -> None:
        redactor = Redactor({"email": "hash", "phone": "mask", "token": "keep"}, KEY, ["mrn"])
        redacted = redactor.text("email=a@b.org phone: +491234567890 token=x mrn=5")
        assert redacted == f"email={redactor.keyed_hash('a@b.org')} phone: ••••7890 token=x mrn=[redacted]"

    @settings(often, derandomize=True)
    @given(
        st.lists(
            st.sampled_from(
                [
                    *(text for text, _ in TEXTS),
                    "password",
                    "token ",
                    "=",
                    ":",
                    "'",
                    '"',
                    "\\",
                    "[",
                    "]",
                    "{",
                    "(",
                    ")",
                ]
            )
            | st.sampled_from([",", ";", "&", " ", "\n", "cookie", "Bearer ", "Basic ", "://", "@", JWT, "4111", "-"])
            | st.text(max_size=3),
            max_size=8,
        ).map("".join)
    )
    def test_it_never_raises_and_any_text_twice_is_once(self, text: str) -> None:
        once = Redactor().text(text)
        assert Redactor().text(once) == once


SIZE = 1 << 16  # characters; more than any event takes
HOSTILE = (
    r"""
a=|a:b |password= |password=b |password=[|password='|password="\"|token: {|cookie: a~|api key: x |a b |:|w|-|é
eyJ|-eyJaaaaa|eyJaaaaa.|Bearer |Bearer     |Bearer a1234567 |Basic dXNlcjpwYXNz |://a:b|://|a:|:@|~|&|a=&|password=&;
-----BEGIN PRIVATE KEY-----|-----BEGIN |A|4|4111 |4242 |4 |4111111111111111 |123-45-6789-| |\"|\|"|'|[
]|[]|,|,a|%3D|%
""".strip()
    .replace("\n", "|")
    .replace("~", "\n")
    .split("|")
)


class TestTime:
    @pytest.mark.parametrize("piece", HOSTILE)
    @pytest.mark.parametrize("start", ["", "password="])
    def test_long_hostile_text_takes_linear_time(self, piece: str, start: str) -> None:
        text = start + piece * (SIZE // len(piece))
        redactor = Redactor()
        begin = time.perf_counter()
        redactor.text(text)
        redactor.query(text)
        redactor.details({"note": text})
        redactor.path(text[: SIZE // 8])  # longer than any server takes
        redactor.routed_path(text[: SIZE // 8], "/{a}-{token}/{b}", {})
        assert time.perf_counter() - begin < 20  # a quarter of a second; something quadratic takes minutes

    def test_ever_new_names_take_linear_time(self) -> None:
        begin = time.perf_counter()
        Redactor().text("".join(f"a{number}=" for number in range(SIZE // 7)))
        Redactor().query("".join(f"a{number}=&" for number in range(SIZE // 8)))
        assert time.perf_counter() - begin < 20


# --- Twice is once, everywhere

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "phone", "email", "changes", "old", "new", "a"]), inner)
    ),
)


class TestTwice:
    @often
    @given(st.dictionaries(st.sampled_from([*SENSITIVE[:9], "changes", "phone", "email", "a"]), values))
    def test_redacting_details_twice_is_redacting_them_once(self, details: dict[str, Any]) -> None:
        redactor = Redactor({"phone": "mask", "email": "hash"}, KEY)
        once = redactor.details(details)
        assert redactor.details(once) == once

    @often
    @given(values, st.sampled_from(SENSITIVE))
    def test_nothing_of_a_secret_stays(self, value: Any, name: str) -> None:
        redacted = Redactor().details({"a": [{name: {"s3cr3t": [value, "s3cr3t"]}}]})
        assert "s3cr3t" not in str(redacted)


def test_a_rule_for_a_name_that_is_also_a_side_of_a_change_holds_there_too():
    changes = {"ward": {"old": "B2", "new": "C3"}}
    assert Redactor(rules={"old": "replace"}).details({"changes": changes})["changes"] == {
        "ward": {"old": REDACTED, "new": "C3"}
    }
    assert Redactor().details({"changes": changes})["changes"] == changes


def test_a_github_token_of_the_long_kind_is_found_by_itself():
    assert Redactor().details({"note": "github_pat_" + "a" * 24}) == {"note": REDACTED}


@often
@given(
    st.lists(
        st.sampled_from([
            *"aZ9/_-.~ :=\t%&'\"", "%3d", "%3D", "=>", "password", "Bearer", "Basic", "https://u:", "@", "eyJ",
            "sk_live_", "ghp_", "github_pat_", "glpat-", "xoxb-", "AKIA", "AIza", "abcdefghijklmnopqrst0123456789",
            "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
        ]),
        max_size=8,
    )
)  # fmt: skip
def test_the_quick_look_at_a_path_overlooks_nothing(parts):
    text, rules = "".join(parts), Rules({}, KEY, ())
    with pytest.MonkeyPatch.context() as patch:
        quickly = redact_credentials(text, rules)
        patch.setattr("audit_core.redaction.free_text._may_be_credentials", lambda _: True)
        assert redact_credentials(text, rules) == quickly
