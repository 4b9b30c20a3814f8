-- A table without rowid keeps whole rows in the tree that keys are searched in. Wherever a search meets a row that is longer
-- than a quarter of a page, SQLite copies all of it to compare its key: with a component of megabytes near the root, each
-- look-up in `state` copied megabytes. So what may be long is kept in ordinary tables, and keys in indexes of their own.
create table state_row (
    tenant blob not null check (length(tenant) = 16),
    space text not null,
    key text not null,
    version integer not null,
    value blob not null,
    unique (tenant, space, key)
) strict;

insert into state_row (tenant, space, key, version, value)
select tenant, space, key, version, value from state;

drop table state;
alter table state_row rename to state;

create table idempotency_row (
    tenant blob not null check (length(tenant) = 16),
    principal text not null,
    route text not null,
    idempotency_key text not null,
    fingerprint blob not null check (length(fingerprint) = 32),
    status integer not null,
    headers text not null,
    body blob not null,
    created_at integer not null,
    expires_at integer not null,
    unique (tenant, principal, route, idempotency_key)
) strict;

insert into idempotency_row
    (tenant, principal, route, idempotency_key, fingerprint, status, headers, body, created_at, expires_at)
select tenant, principal, route, idempotency_key, fingerprint, status, headers, body, created_at, expires_at
from idempotency;

drop table idempotency;
alter table idempotency_row rename to idempotency;
create index idempotency_by_expiry on idempotency (expires_at);

create table event_row (
    tenant blob not null check (length(tenant) = 16),
    sequence integer not null,
    id text not null,
    source text not null,
    kind text not null,
    subject text,
    time integer not null,
    data text not null,
    actor text not null,
    correlation blob not null check (length(correlation) = 16),
    traceparent text,
    commit_sequence integer not null,
    unique (tenant, sequence),
    unique (tenant, source, id)
) strict;

insert into event_row
    (tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent, commit_sequence)
select tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent, commit_sequence
from event;

-- Its triggers go with it.
drop table event;
alter table event_row rename to event;
create index event_by_kind on event (tenant, kind, sequence);
create index event_by_subject on event (tenant, subject, sequence);

create trigger event_refuses_update before update on event
begin
    select raise(abort, 'table event is append-only: UPDATE is refused');
end;

create trigger event_refuses_delete before delete on event
begin
    select raise(abort, 'table event is append-only: DELETE is refused');
end;
