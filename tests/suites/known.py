"""Tests of other people's suites that differ with us, by the reason: parts of their names.

Whatever else fails with us and not without is a fault of ours.
"""

SQLALCHEMY = {
    "has a mock in the place of a connection, or asks how often the session looks for one": [
        "test_bind.py::BindIntegrationTest::test_bind_through_execute",
        "test_query.py::SessionBindTest::test_bulk_",
        "::test_routing_session[",
    ],
    "writes a table that is not there, or looks at all statements by itself": [
        "::test_sharding_extension_returning_mismatch",
        "::test_update_returning_eagerload_propagate[",
    ],
    "calls all listeners with arguments that are no objects of SQLAlchemy's": [
        "test_events.py::DeferredMapperEventsTest::test_deferred_map_event",
        "test_events.py::MapperEventsTest::test_insert_flags",
        "test_events.py::SessionEventsTest::test_sessionmaker_gen_after_session_listen",
    ],
    "sees that the rows of RETURNING, and so its objects, are there before it asks for them": [
        "::test_upsert_populate_existing[populate_existing]",
        "::test_update_populate_existing[first-auto-returning-",
        "::test_update_populate_existing[first-evaluate-returning-",
        "::test_update_populate_existing[first-fetch-returning-",
        "::test_update_populate_existing[middle-auto-returning-",
        "::test_update_populate_existing[middle-evaluate-returning-",
        "::test_update_populate_existing[middle-fetch-returning-",
    ],
    "expects that an UPDATE with return_defaults() leaves the object with a value that the row has no longer": [
        "::test_update_populate_existing[first-fetch-defaults-callable-",
        "::test_update_populate_existing[middle-fetch-defaults-callable-",
    ],
}
DJANGO = {
    "counts the queries of a deletion: an object with parents' tables is read before it is deleted": [
        "delete.tests.FastDeleteTests.test_fast_delete_inheritance",
    ],
    "looks at the SQL of an UPDATE, which on PostgreSQL reads the old values too": [
        "composite_pk.test_update.CompositePKUpdateTests.test_save_user",
        "composite_pk.test_update.CompositePKUpdateTests.test_update_fields_deferred",
    ],
    "measures time, and may fail by chance": [
        "serializers.test_deserialization.TestDeserializer.test_crafted_xml_performance",
    ],
}
STARLETTE = {
    "expects two requests, which share one scope, to take turns in one way alone": [
        "test_base.py::test_do_not_block_on_background_tasks[",
    ],
}
FASTAPI = {
    "is cancelled while its first byte waits for its event": [
        "test_async_dependency_cleanup.py::test_pending_cancellation_without_async_yield_keeps_response_timing[",
        "test_async_dependency_cleanup.py::test_cleanup_follows_the_overridden_dependency[asyncio-False",
        "test_async_dependency_cleanup.py::test_cleanup_follows_the_overridden_dependency[trio-False",
    ],
    "sends its first byte while it receives a body that is refused, and the first to be done counts": [
        "test_request_body_limits.py::test_shared_frontend_uses_each_inclusions_body_limit[",
    ],
}
FLASK = {
    "counts references: an application that is wrapped as Flask's documentation says is held by itself": [
        "test_basic.py::test_app_freed_on_zero_refcount",
    ],
}
DJANGO_REQUESTS: dict[str, list[str]] = {}
