"""Which names suggest that their values are about a person: told as they are, unless a rule says otherwise.

Nothing is redacted by this. It asks whoever keeps the trail to decide: an address in it cannot be taken out again.
"""

from __future__ import annotations

from typing import Final

from audit_core.redaction.sensitive_names import ASKING, DESCRIBING, IDENTIFYING, MEASURING, words_of

_PHRASES: Final = frozenset(
    # who and where: HIPAA 45 CFR 164.514(b)(2) has such a list
    "firstname lastname fullname surname forename givenname familyname maidenname middlename nickname birthname "
    "address addresses street postcode postalcode zipcode zip email emails phone phones telephone mobile fax "
    "birth birthday birthdate birthplace born dob latitude longitude geolocation fingerprint biometric biometrics "
    "passport nationalid identitycard taxid taxnumber driverlicense driverslicense drivinglicence licenseplate "
    "insurancenumber insuranceid policynumber patientnumber "
    # what GDPR Art. 9 and 10 call special
    "gender sex religion religious ethnicity ethnic race nationality citizenship sexualorientation politicalparty "
    "tradeunion conviction convictions criminal diagnosis diagnoses disease diseases illness symptom symptoms "
    "medication medications prescription prescriptions allergy allergies bloodtype bloodgroup genetic genome dna "
    "disability disabilities pregnancy pregnant "
    "salary wage wages income".split()
)
_ABOUT: Final = frozenset("confirmed notifications preferences subject template templates verified".split())
_LONGEST_RUN: Final = 3


def is_personal(name: str) -> bool:
    """Whether a run of its words is; a description or a measure of it (``email_verified``) is not."""
    words = words_of(name)
    ends = {
        start + count
        for start in range(len(words))
        for count in range(1, _LONGEST_RUN + 1)
        if "".join(words[start : start + count]) in _PHRASES
    }
    if not ends or len(words) in ends:
        return bool(ends)
    return words[0] not in ASKING and words[-1] not in MEASURING | DESCRIBING | IDENTIFYING | _ABOUT
