import os
import uuid

from audit_core.identity import new_event_id


def test_an_id_is_a_version_7_uuid_in_its_usual_form():
    for _ in range(1_000):
        parsed = uuid.UUID(text := new_event_id())
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)


def test_ids_are_unique_and_sort_by_the_millisecond_they_were_made_in():
    made = [new_event_id() for _ in range(20_000)]
    assert len(set(made)) == 20_000
    assert [text[:13] for text in made] == sorted(text[:13] for text in made)


def test_a_forked_child_does_not_make_its_parents_ids():
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, "".join(new_event_id()[15:] for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 65_536).decode()
    os.close(reader)
    os.close(writer)
    assert not any(new_event_id()[15:] in theirs for _ in range(50))
