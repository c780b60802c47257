"""What one auditor leaves out of the classes that are mapped."""

from __future__ import annotations

from collections.abc import Iterator

from audit_core.coverage import Gap, gap_of_names, gaps_of_fields, idle_rules
from audit_core.errors import ConfigurationError
from audit_core.orm.sqlalchemy.auditor import SQLAlchemyAuditor
from audit_core.orm.sqlalchemy.classes import every_mapper, fields_of, is_own
from audit_core.orm.sqlalchemy.mapped import mapped
from audit_core.orm.sqlalchemy.targets import every_configured_mapper


def gaps(auditor: SQLAlchemyAuditor) -> Iterator[Gap]:
    """Classes, and fields without a rule; a name that is wrong is a problem."""
    fields: dict[str, list[str]] = {}
    left_out: set[str] = set()
    wrong: set[str] = set()
    for mapper in list(every_configured_mapper()):
        if is_own(mapper):
            continue
        try:
            if auditor.audits(mapper):
                fields.setdefault(mapped(mapper).resource_type, []).extend(fields_of(mapper))
            else:
                left_out.add(mapper.class_.__name__)
        except ConfigurationError as error:
            wrong.add(str(error))
    if not any(every_mapper()):
        yield Gap("No class is mapped when the auditor's module has been imported: name a module that imports them.")
    yield from (Gap(sentence, is_problem=True) for sentence in sorted(wrong))
    yield from gap_of_names("Classes that are not audited", left_out)
    told = {kind: dict.fromkeys(names) for kind, names in fields.items()}
    yield from gaps_of_fields(auditor.trail.redactor, told)
    yield from idle_rules(auditor.trail.redactor.rules, told)
